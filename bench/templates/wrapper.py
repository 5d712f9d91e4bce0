"""my-wrapper: log-ratios times a power. Change it to your own wrapper.

bench check ./my_wrapper.py                                                check its contract
bench run smoke --plugin ./my_wrapper.py --method 'my-wrapper(histogram)'  compare it
"""

from pydantic import Field

from bench.contracts import Settings, Wrapped, Wrapper


class MyWrapperConfig(Settings):
    """Settings, written after the method in this order: my-wrapper(lre:tuned,0.9)."""

    power: float = Field(default=0.8, gt=0)


class MyWrapper(Wrapper):
    """Flatten or sharpen a likelihood by a power."""

    name = "my-wrapper"
    version = 1  # raise it when results change; in a plugin file the file's hash is enough
    title = "Log-ratios times a power"
    Config = MyWrapperConfig

    def restore(self, surrogates, state):
        """Return the wrapped surrogate; log-ratios are (members, components, …)."""
        return Wrapped(surrogates, lambda log_ratio: self.config.power * log_ratio)
