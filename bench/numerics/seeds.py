"""Seeds that derive from what they randomise."""

import hashlib
import json
from typing import Any

import torch


def canonical_json(value: Any) -> str:
    """Serialises to JSON in one way only: sorted keys, no spaces, no NaN.

    Example:
        >>> canonical_json({"b": 1, "a": [1.5, None]})
        '{"a":[1.5,null],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(*what: Any) -> str:
    """Returns the SHA-256 of canonical JSON, hexadecimal.

    Example:
        >>> digest("task", 1)[:8]
        '1ce9f4fb'
    """
    return hashlib.sha256(canonical_json(what).encode()).hexdigest()


def generator(*what: Any) -> torch.Generator:
    """Creates a CPU generator seeded by what it randomises.

    Example:
        >>> a, b = (generator("simulations", "train", 0) for _ in range(2))
        >>> bool((torch.rand(3, generator=a) == torch.rand(3, generator=b)).all())
        True
    """
    return torch.Generator().manual_seed(int(digest(*what)[:15], 16))
