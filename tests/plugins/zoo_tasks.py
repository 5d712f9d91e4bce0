"""Tasks that break one promise each; `caught_by` is the check that must fail."""

import math

import torch

from bench.contracts import Log, Parameter, ParameterSpace, Task


class Bell:
    """Gaussian around a multiple of the context; d = 1, event shape (1,)."""

    size = None

    def __init__(self, factor):
        self.factor = factor

    def simulate(self, context, generator):
        return self.factor * context + torch.randn(context.shape, generator=generator)

    def log_prob(self, x, context):
        pull = (x.double() - self.factor * context.double())[..., 0]
        return -0.5 * pull.square() - 0.5 * math.log(2 * math.pi)

    def score(self, x, context):
        return self.factor * (x.double() - self.factor * context.double())


class Sound(Task):
    """Correct task."""

    name = "sound-task"
    caught_by = ""
    also = ()  # checks that may fail too
    version = 1
    observations = 100
    event_shape = (1,)
    space = ParameterSpace(
        [
            Parameter("mu", 0.0, 1.0, "interest", (0.2, 0.8)),
            Parameter("z", 1.0, 2.0, "nuisance", (1.2, 1.8)),
        ],
        context=["z"],
    )
    nominal = torch.tensor([1.5])
    points = torch.tensor([[0.3, 1.3], [0.6, 1.6]], dtype=torch.float64)
    part = Bell

    def components(self, split):
        return {"up": self.part(1.0), "down": self.part(-1.0)}

    def weights(self, theta):
        return torch.stack([theta[..., 0], 1 - theta[..., 0]], -1)


class OtherNames(Sound):
    name, caught_by = "other-names", "contract"

    def components(self, split):
        return super().components(split) if split == "test" else {"up": Bell(1.0)}


class PointOutside(Sound):
    name, caught_by = "point-outside", "bounds"
    points = torch.tensor([[0.3, 1.3], [0.6, 2.6]], dtype=torch.float64)


class HeavyWeights(Sound):
    name, caught_by = "heavy-weights", "weights"

    def weights(self, theta):
        return torch.stack([theta[..., 0], torch.ones_like(theta[..., 0])], -1)


class NegativeRate(Sound):
    """Task with a number of expected observations that is negative somewhere."""

    name, caught_by = "negative-rate", "rate"

    def rate(self, theta):
        return 100 * (theta[..., 0] - 0.3)


class Idle(Sound):
    """Task with a parameter that changes nothing."""

    name, caught_by = "idle", "parameters"
    space = ParameterSpace(
        [*Sound.space.parameters, Parameter("x7", 0.0, 1.0, "nuisance", (0.2, 0.8))],
        context=["z", "x7"],
    )
    nominal = torch.tensor([1.5, 0.5])
    points = torch.tensor([[0.3, 1.3, 0.4]], dtype=torch.float64)

    class part(Bell):
        def simulate(self, context, generator):
            return super().simulate(context[..., :1], generator)

        def log_prob(self, x, context):
            return super().log_prob(x, context[..., :1])

        def score(self, x, context):
            by_z = super().score(x, context[..., :1])
            return torch.cat([by_z, torch.zeros_like(by_z)], -1)


class Flattens(Sound):
    name, caught_by = "flattens", "simulations"

    class part(Bell):
        def simulate(self, context, generator):
            return super().simulate(context, generator).view(-1, 1)


class IgnoresTheGenerator(Sound):
    name, caught_by = "ignores-the-generator", "seeds"

    class part(Bell):
        def simulate(self, context, generator):
            return self.factor * context + torch.randn(context.shape)


class TouchesGlobalNumbers(Sound):
    name, caught_by = "touches-global-numbers", "seeds"

    class part(Bell):
        def simulate(self, context, generator):
            torch.rand(1)
            return super().simulate(context, generator)


class NoSlope(Sound):
    name, caught_by = "no-slope", "transform"

    class part(Bell):
        def simulate(self, context, generator):
            return super().simulate(context, generator).exp()

        def log_prob(self, x, context):
            possible = x[..., 0] > 0
            safe = torch.where(possible[..., None], x.double(), 1.0).log()
            out = super().log_prob(safe, context) - safe[..., 0]
            return torch.where(possible, out, -torch.inf)

        def score(self, x, context):
            return super().score(x.double().log(), context)

    class Logarithm(Log):
        def log_jacobian(self, x):
            return torch.zeros_like(x)

    transform = Logarithm()


class WrongInverse(Sound):
    name, caught_by, part = "wrong-inverse", "transform", NoSlope.part

    class Shifted(Log):
        def inverse(self, y):
            return y.exp() + 1

    transform = Shifted()


class NaNWhereImpossible(Sound):
    name, caught_by, transform = "nan-where-impossible", "finite", Log()

    class part(NoSlope.part):
        def log_prob(self, x, context):
            return Bell.log_prob(self, x.double().log(), context) - x[..., 0].double().log()


class ScoresInPairs(Sound):
    name, caught_by = "scores-in-pairs", "broadcasting"

    class part(Bell):
        def score(self, x, context):
            return super().score(x, context).reshape(-1, 1)


class FarReference(Sound):
    """Task whose reference, at its nominal context, does not cover components elsewhere."""

    name, caught_by = "far-reference", "references"

    def components(self, split):
        return {"up": Bell(40.0), "down": Bell(-40.0)}


class TooWide(Sound):
    """Task with simulations a fifth narrower than the density."""

    name, caught_by = "too-wide", "simulator"

    class part(Bell):
        def simulate(self, context, generator):
            return self.factor * context + 0.8 * torch.randn(context.shape, generator=generator)


class Skewed(Sound):
    """Task with simulations of the density's mean and variance, but another shape."""

    name, caught_by = "skewed", "simulator"
    also = ("references",)  # its simulations end beyond those of the reference

    class part(Bell):
        def simulate(self, context, generator):
            drawn = torch.empty(context.shape).exponential_(generator=generator)
            return self.factor * context + drawn - 1


class Smooth(Sound):
    """Fields of 64 numbers with correlated neighbours, independent in the density."""

    name, caught_by = "too-smooth", "simulator"
    event_shape, observation, reference = (8, 8), "field", "evidence"

    class part(Bell):
        def simulate(self, context, generator):
            noise = torch.randn(*context.shape[:-1], 8, 8, generator=generator)
            noise = noise + 0.5 * noise.roll(1, -1)
            return context[..., None] * noise / 1.25**0.5

        def log_prob(self, x, context):
            z = context[..., 0].double()
            square = x.double().square().sum((-2, -1)) / z.square()
            return -0.5 * square - 64 * (z.log() + 0.5 * math.log(2 * math.pi))

        def score(self, x, context):
            z = context.double()
            return x.double().square().sum((-2, -1))[..., None] / z**3 - 64 / z


class NoConstant(Sound):
    name, caught_by = "no-constant", "normalisation"

    class part(Bell):
        def log_prob(self, x, context):
            return super().log_prob(x, context) + 0.5 * math.log(2 * math.pi)


class TwiceTheScore(Sound):
    name, caught_by = "twice-the-score", "slopes"

    class part(Bell):
        def score(self, x, context):
            return 2 * super().score(x, context)


class Detached(Idle):
    """Task of three parameters whose density has no gradient."""

    name, caught_by = "detached", "gradients"

    class part(Idle.part):
        def log_prob(self, x, context):
            return super().log_prob(x, context.detach())

    def weights(self, theta):
        share = theta[..., 0] * theta[..., 2]
        return torch.stack([share, 1 - share], -1)


class BiasedScore(Sound):
    name, caught_by = "biased-score", "mean-score"

    class part:
        size = None

        def __init__(self, factor):
            self.bell = Bell(factor)

        def simulate(self, context, generator):
            return self.bell.simulate(context, generator)

        def score(self, x, context):
            return self.bell.score(x, context) + 0.2
