"""Random seeds derived from hashes of what they are used for."""

import hashlib
import json
from typing import Any

import numpy as np
import torch


def canonical_json(value: Any) -> str:
    """Serialise to JSON in a unique form: sorted keys, no spaces, no NaN.

    Example:
        >>> canonical_json({"b": 1, "a": [1.5, None]})
        '{"a":[1.5,null],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(*what: Any) -> str:
    """Return the SHA-256 of the canonical JSON of the arguments, in hexadecimal.

    Example:
        >>> digest("task", 1)[:8]
        '5c390c35'
    """
    return hashlib.sha256(canonical_json(what).encode()).hexdigest()


OBJECT = "object "
"""Begin of the versions of a program's objects, which differ between processes."""


def lasting(identity: Any) -> Any:
    """Return an identity without versions of a program's objects, so that seeds last.

    Example:
        >>> lasting({"task": {"plugin": "object 1f"}, "budget": 10})
        {'task': {'plugin': 'object '}, 'budget': 10}
    """
    if isinstance(identity, dict):
        return {key: lasting(value) for key, value in identity.items()}
    if isinstance(identity, list):
        return [lasting(value) for value in identity]
    return OBJECT if isinstance(identity, str) and identity.startswith(OBJECT) else identity


_WORDS = 624  # words in a Mersenne Twister's state
_OFFSET = 24  # bytes before them in PyTorch's saved state, as 64-bit integers


def generator(*what: Any) -> torch.Generator:
    """Create a CPU generator seeded with a hash of the arguments.

    PyTorch seeds its Mersenne Twister with 32 bits, so about 10⁵ streams would contain an equal
    pair by chance. Here the hash fills the whole state (SeedSequence, O'Neill 2015).

    Example:
        >>> a, b = (generator("simulations", "train", 0) for _ in range(2))
        >>> bool((torch.rand(3, generator=a) == torch.rand(3, generator=b)).all())
        True
    """
    entropy = int(digest(*what), 16)
    twister = torch.Generator().manual_seed(entropy & 0xFFFFFFFF)
    state = twister.get_state().numpy()
    words = np.random.SeedSequence(entropy).generate_state(_WORDS, np.uint32)
    state[_OFFSET : _OFFSET + 8 * _WORDS] = words.astype(np.uint64).view(np.uint8)
    twister.set_state(torch.from_numpy(state))
    return twister
