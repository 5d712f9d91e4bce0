"""For the tests under fire: how much is tried, and what they share.

`--hypothesis-profile fire` tries 10,000 cases in all, `ci` and the default a tenth of them.
"""

import pytest
from hypothesis import HealthCheck, settings

_LENIENT = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "derandomize": True,
    "database": None,
}
settings.register_profile("ci", max_examples=250, **_LENIENT)
settings.register_profile("fire", max_examples=2500, **_LENIENT)
settings.load_profile("ci")


def pytest_collection_modifyitems(items):
    for item in items:
        if "fire" in item.path.parts:
            item.add_marker(pytest.mark.slow)
