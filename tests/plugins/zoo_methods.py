"""Methods that break one promise each; `caught_by` is the check that must fail.

The last ones keep every promise and are inaccurate; `warned_by` is the check that must warn.
"""

import math

import torch

from bench.contracts import ComponentMethod, FitLog
from bench.errors import NotApplicable


class Sound(ComponentMethod):
    """Gaussian features whose mean is quadratic in the context; a correct method."""

    name = "sound"
    caught_by = warned_by = ""
    also = ()  # checks that may fail too
    has_density = True
    determinant = True

    def check(self, task):
        if task.observation != "vector":
            raise NotApplicable("vectors only")

    def fit_component(self, component, fit_context):
        data = fit_context.bank.draw(component, fit_context.calls_per_component)
        if len(data) < 20:
            raise NotApplicable("20 simulations at least")
        return Fitted(self, fit_context.features, self.solve(fit_context, data))

    def solve(self, fit_context, data):
        features = fit_context.features
        y, basis = features(data.x).double(), powers(features.context(data.context))
        weights = torch.linalg.solve(basis.mT @ basis, basis.mT @ y)
        residual = y - basis @ weights
        factor = torch.linalg.cholesky(residual.mT @ residual / y.shape[1])
        return {"weights": weights, "whiten": torch.linalg.inv(factor)}

    def restore_component(self, component, task, features, state):
        return Fitted(self, features, state)

    def finish(self, out, x, context, jacobian):
        """Return log-ratios from log-densities of features, (members, events, contexts)."""
        return out + jacobian


def powers(context):
    context = context.double()
    return torch.cat([torch.ones_like(context[..., :1]), context, context**2], -1)


class Fitted:
    log = FitLog()

    def __init__(self, method, features, values):
        self.method, self.features, self.values = method, features, values

    def log_ratio(self, x, context):
        self.method.fitted = self
        jacobian = self.features.log_jacobian(x)[None, :, None]
        return self.method.finish(self.plain(x, context), x, context, jacobian)

    def plain(self, x, context):
        """Return log-densities of features, (members, events, contexts)."""
        weights, whiten = self.values["weights"], self.values["whiten"]
        mean = powers(self.features.context(context)) @ weights
        residual = self.features(x).double()[None, :, None] - mean[:, None]
        pull = residual @ whiten[:, None].mT
        scale = whiten.diagonal(dim1=-2, dim2=-1).log().sum(-1)[:, None, None]
        constant = 0.5 * pull.shape[-1] * math.log(2 * math.pi)
        return -0.5 * pull.square().sum(-1) + self.method.determinant * scale - constant

    def state(self):
        return self.values


class UnknownReference(Sound):
    name, caught_by = "unknown-reference", "contract"

    def reference_kind(self, task):
        return "prior"


class TakesEverything(Sound):
    name, caught_by = "takes-everything", "kinds"

    def check(self, task):
        pass


class SmallBudgets(Sound):
    name, caught_by = "singular-at-small-budgets", "small-budgets"

    def fit_component(self, component, fit_context):
        data = fit_context.bank.draw(component, fit_context.calls_per_component)
        return Fitted(self, fit_context.features, self.solve(fit_context, data))


class SimulatesItself(Sound):
    name, caught_by = "simulates-itself", "budget"

    def fit_component(self, component, fit_context):
        rng = fit_context.generator(fit_context.members[0], "more")
        task = fit_context.task
        task.components("train")[component].simulate(task.nominal.expand(10, -1), rng)
        return super().fit_component(component, fit_context)


class TrainsOnTest(Sound):
    name, caught_by = "trains-on-test", "sources"

    def fit_component(self, component, fit_context):
        data = fit_context.bank.draw(component, fit_context.calls_per_component, split="test")
        if len(data) < 20:
            raise NotApplicable("20 simulations at least")
        return Fitted(self, fit_context.features, self.solve(fit_context, data))


class LooksUpTheTruth(Sound):
    name, caught_by = "looks-up-the-truth", "sources"

    def fit_component(self, component, fit_context):
        part = fit_context.task.components("train")[component]
        part.log_prob(torch.zeros(1, *fit_context.task.event_shape), fit_context.task.nominal[None])
        return super().fit_component(component, fit_context)


class RandomEachTime(Sound):
    name, caught_by = "random-each-time", "determinism"

    def solve(self, fit_context, data):
        values = super().solve(fit_context, data)
        rng = torch.Generator()
        rng.seed()
        noise = torch.rand(values["weights"].shape, generator=rng, dtype=torch.float64)
        return values | {"weights": values["weights"] * (1 + 1e-7 * noise)}


class CouplesMembers(Sound):
    name, caught_by = "couples-members", "independent"

    def solve(self, fit_context, data):
        values = super().solve(fit_context, data)
        return {k: v + 0.05 * (v.mean(0) - v) for k, v in values.items()}


class OneTrainingSet(Sound):
    # A member alone gets the training set of the first.
    name, caught_by, also = "one-training-set", "distinct", ("independent",)

    def solve(self, fit_context, data):
        values = super().solve(fit_context, data)
        return {k: v[:1].expand(v.shape) for k, v in values.items()}


class SetsDefaults(Sound):
    name, caught_by = "sets-defaults", "process"

    def solve(self, fit_context, data):
        torch.manual_seed(0)
        torch.set_default_dtype(torch.float64)
        return super().solve(fit_context, data)


class Squeezes(Sound):
    name, caught_by = "squeezes", "shapes"

    def finish(self, out, x, context, jacobian):
        out = out + jacobian
        return out.squeeze(1)  # correct unless there is one event


class HalfPrecision(Sound):
    name, caught_by = "half-precision", "dtype"

    def finish(self, out, x, context, jacobian):
        return (out + jacobian).half()


class StaysOnTheCPU(Sound):
    name, caught_by = "stays-on-the-cpu", "device"

    def finish(self, out, x, context, jacobian):
        return out + jacobian + torch.zeros(len(x), 1)


class ComparesEvents(Sound):
    name, caught_by, has_density = "compares-events", "batching", False

    def finish(self, out, x, context, jacobian):
        return out + jacobian - x.double().mean()


class SortsContexts(Sound):
    name, caught_by = "sorts-contexts", "order"

    def finish(self, out, x, context, jacobian):
        return (out + jacobian)[..., context[:, 0].argsort()]


class Pairs:
    """Mixin of correct pairs; subclasses break one promise."""

    def fit_component(self, component, fit_context):
        return FittedPairs(
            self, fit_context.features, super().fit_component(component, fit_context).values
        )

    def restore_component(self, component, task, features, state):
        return FittedPairs(self, features, state)

    def scaled(self, features, context):
        return features.context(context)

    def own(self, out):
        return out


class FittedPairs(Fitted):
    def log_ratio_paired(self, x, context):
        weights, whiten = self.values["weights"], self.values["whiten"]
        mean = powers(self.method.scaled(self.features, context)) @ weights
        pull = (self.features(x).double() - mean) @ whiten.mT
        scale = whiten.diagonal(dim1=-2, dim2=-1).log().sum(-1)[:, None]
        constant = 0.5 * pull.shape[-1] * math.log(2 * math.pi)
        out = -0.5 * pull.square().sum(-1) + scale - constant
        return self.method.own(out + self.features.log_jacobian(x))


class SoundPairs(Pairs, Sound):
    name = "sound-pairs"


class DetachesPairs(Pairs, Sound):
    name, caught_by = "detaches-pairs", "pairs"

    def scaled(self, features, context):
        return features.context(context.detach())


class HalfTheGradient(Pairs, Sound):
    name, caught_by = "half-the-gradient", "pairs"

    def own(self, out):
        return 0.5 * (out + out.detach())


class ReversesPairs(Pairs, Sound):
    name, caught_by = "reverses-pairs", "pairs"

    def own(self, out):
        return out.flip(-1)


class ForgetsMembers(Pairs, Sound):
    name, caught_by = "forgets-members", "pairs"

    def scaled(self, features, context):
        return features.context(context if context.dim() == 2 else context[0])


class ArccosOfPairs(Pairs, Sound):
    name, caught_by = "arccos-of-pairs", "pairs"

    def scaled(self, features, context):
        return features.context(context).clamp(-1, 1).acos().cos()


class ClampsPairs(Pairs, Sound):
    name, caught_by = "clamps-pairs", "pairs"

    def scaled(self, features, context):
        unit = features.context(context)
        return torch.where(unit <= -1, -1.0, torch.where(unit >= 1, 1.0, unit))


class FittedSamples(Fitted):
    def sample(self, context, generator):
        weights, whiten = self.values["weights"], self.values["whiten"]
        mean = powers(self.features.context(context)) @ weights
        noise = torch.randn(mean.shape, generator=self.method.chosen(generator))
        y = mean + noise.to(mean) @ torch.linalg.inv(whiten).mT
        return self.features.inverse(y)


class Samples:
    """Mixin of correct samples; subclasses break one promise."""

    def fit_component(self, component, fit_context):
        values = super().fit_component(component, fit_context).values
        return FittedSamples(self, fit_context.features, values)

    def restore_component(self, component, task, features, state):
        return FittedSamples(self, features, state)

    def chosen(self, generator):
        return generator


class SoundSamples(Samples, Sound):
    name = "sound-samples"


class DrawsFromGlobalState(Samples, Sound):
    name, caught_by = "draws-from-global-state", "samples"

    def chosen(self, generator):
        return None


class DrawsTheSame(Samples, Sound):
    name, caught_by = "draws-the-same", "samples"

    def chosen(self, generator):
        return torch.Generator().manual_seed(0)


class ChangesState(Sound):
    name, caught_by = "changes-state", "inputs"

    def restore_component(self, component, task, features, state):
        state["weights"].mul_(1 + 1e-12)
        return Fitted(self, features, state)


class ForgetsPart(Sound):
    name, caught_by = "forgets-part", "state"

    def restore_component(self, component, task, features, state):
        eye = torch.eye(state["whiten"].shape[-1], dtype=torch.float64)
        return Fitted(self, features, state | {"whiten": eye.to(state["whiten"].device)[None]})


class NaNAtTheBounds(Sound):
    name, caught_by = "nan-at-the-bounds", "finite"

    def finish(self, out, x, context, jacobian):
        z = context[:, 0]
        at_bound = (z <= 0.5001) & (z > 0.4)
        return torch.where(at_bound, torch.nan, out + jacobian)


class OwnStandardisation(Sound):
    """Method that standardises each component separately, without its Jacobian."""

    name, caught_by, has_density = "own-standardisation", "shared-term", False
    determinant = False


class OwnDenominator(Sound):
    """Method that divides each component by its own marginal instead of a common one."""

    name, caught_by, has_density = "own-denominator", "shared-term", False

    def finish(self, out, x, context, jacobian):
        some = self.fitted.features.space.draw_context(16, torch.Generator().manual_seed(0))
        return out - self.fitted.plain(x, some.to(x.device)).logsumexp(-1, keepdim=True)


class NoJacobian(Sound):
    name, caught_by = "no-jacobian", "density"

    def finish(self, out, x, context, jacobian):
        return out


class Timid(Sound):
    """Method with half of the correct log-ratios: log-odds of slope 2."""

    name, warned_by, has_density = "timid", "shared-term", False

    def finish(self, out, x, context, jacobian):
        return 0.5 * (out + jacobian)


class TooWide(Sound):
    """Density with integral 1, six times too wide."""

    name, warned_by = "too-wide", "shared-term"

    def solve(self, fit_context, data):
        values = super().solve(fit_context, data)
        return values | {"whiten": values["whiten"] / 6}


class KnowsNothing(Sound):
    """Method like an untrained network: almost the same log-ratio for every event."""

    name, warned_by, has_density = "knows-nothing", "shared-term", False

    def finish(self, out, x, context, jacobian):
        return 1e-3 * out


class NoTails(Sound):
    """Method that assigns zero density to rare events."""

    name, warned_by, has_density = "no-tails", "finite", False

    def finish(self, out, x, context, jacobian):
        return torch.where(out < out.new_tensor(-6.0), -torch.inf, out) + jacobian
