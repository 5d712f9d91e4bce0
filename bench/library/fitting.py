"""Training of one method on one task: `bench.task`, `bench.fit` and `bench.load_surrogate`."""

import os
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import cached_property
from itertools import product
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from bench.contracts import FitLog, IndependentPlan, Method, ReferenceKind, Surrogate, Task, Wrapper
from bench.contracts.pairs import log_ratio_paired
from bench.contracts.sampling import sample
from bench.errors import NotApplicable, PluginError, UsageError
from bench.experiment.jobs import FitJob, MemberJob
from bench.experiment.preset import Preset, make_preset
from bench.experiment.schedule import Schedule, choose_device, schedule
from bench.experiment.selection import MethodPattern, configured, names_fit
from bench.inference.critical import CriticalValues, critical_values_of
from bench.library.runs import Paths, files_of, perform, raise_failures
from bench.registry.registry import Defined, Registry, adopt
from bench.stages.members import open_fit, parts_of
from bench.storage import schema
from bench.storage.entries import JobContext
from bench.storage.fit_spec import FitSpec
from bench.storage.simulations import SimulationStore
from bench.storage.store import Store

_SAVED = "surrogate"  # record of a saved surrogate
_UNUSED = IndependentPlan(uniform=2, per_point=0)  # a preset has a plan; fits do not use it


def task(name: str, *, plugins: Paths = ()) -> Task:
    """Return a registered task.

    Args:
        name: its name, see `bench list tasks`.
        plugins: files that define tasks.

    Raises:
        UsageError: if there is none of this name; the message has similar names.

    Example:
        >>> import bench
        >>> bench.task("gaussians-near").space.names
        ('mu', 'z')
    """
    return Registry(files_of(plugins)).task(name)


class TemporaryFolder:
    """New folder, which is removed once nothing refers to this object.

    Attributes:
        path: the folder.
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="nlbench-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


class FittedSurrogate:
    """Trained members of a method on a task.

    It has the contract of `bench.contracts.Surrogate`.

    Attributes:
        task: the task.
        label: the method, as in leaderboards.
        members: number of members.
        budget: simulator calls that each member could spend.
        folder: results folder with the fit.
        spec, context, preset, pattern: how it was trained.
    """

    def __init__(
        self,
        context: JobContext,
        spec: FitSpec,
        preset: Preset,
        wanted: str,
        temporary: TemporaryFolder | None = None,
    ) -> None:
        self.folder = Path(context.root)
        self.label = spec.label
        self.members = 1 if spec.oracle else preset.members // spec.size
        self.budget = int(spec.identity["budget"])
        self.preset, self.pattern = preset, wanted
        self.spec, self.context = spec, context
        self._temporary = temporary
        self._opened = open_fit(context, spec)
        self.task = self._opened.task

    @cached_property
    def _restored(self) -> Surrogate:
        simulations = SimulationStore(self._opened.store)
        device = torch.device(self.context.device)
        return self._opened.restore(range(self.members), device, simulations)

    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        r"""Return the log-ratio of every observation at every context.

        Args:
            x: observations, (n, \*event).
            context: contexts, the parameters on which components depend, (m, d).

        Returns:
            log p_k(x|η) up to a term in x alone, (members, components, n, m).

        Raises:
            UsageError: if a shape is wrong.
        """
        self._expect(x, context)
        return self._restored.log_ratio(x, context)

    def log_ratio_paired(self, x: Tensor, context: Tensor) -> Tensor:
        r"""Return the log-ratio of observation i at context i, with gradients in the context.

        Args:
            x: observations, (n, \*event).
            context: contexts, (n, d), or (members, n, d).

        Returns:
            (members, components, n).

        Raises:
            UsageError: if a shape is wrong.
        """
        self._expect(x, context)
        return log_ratio_paired(self._restored, x, context)

    def sample(self, context: Tensor, generator: torch.Generator) -> Tensor:
        r"""Draw one observation of every component in each context, from the surrogate's density.

        Args:
            context: contexts, (n, d).
            generator: CPU generator; equal generators give equal samples.

        Returns:
            (members, components, n, \*event) float32.

        Raises:
            UsageError: if the shape is wrong.
            NotApplicable: if the surrogate cannot sample, as surrogates of ratios.
        """
        self._expect_context(context)
        return sample(self._restored, context, generator)

    @property
    def critical_values(self) -> Sequence[CriticalValues | None]:
        """Critical values of each member; None where those of Wilks's theorem apply."""
        return critical_values_of(self._restored, self.members)

    def _expect(self, x: Tensor, context: Tensor) -> None:
        """Refuse wrong shapes, which networks would report in their own terms."""
        event = tuple(self.task.event_shape)
        if tuple(x.shape[1:]) != event or x.dim() == 0:
            wanted = ", ".join(["n", *map(str, event)])
            raise UsageError(f"x has shape {tuple(x.shape)}; {self.task.name} takes ({wanted})")
        self._expect_context(context)

    def _expect_context(self, context: Tensor) -> None:
        d = len(self.task.space.context_index)
        if context.dim() < 2 or context.shape[-1] != d:
            names = ", ".join(p.name for p in self.task.space.context)
            raise UsageError(
                f"context has shape {tuple(context.shape)}; {self.task.name} takes (m, {d}), "
                f"{names or 'no parameter'}"
            )

    @property
    def log(self) -> FitLog:
        """Size and training curves."""
        return self._restored.log

    @property
    def reference(self) -> ReferenceKind | None:
        """Reference whose density is the denominator, or None."""
        return self._restored.reference

    @property
    def has_density(self) -> bool:
        """True if log-ratios are normalised log-densities."""
        return self._restored.has_density

    def state(self) -> Mapping[str, Tensor] | None:
        """Return the trained tensors, which lead with the members."""
        return self._restored.state()

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Save to a new folder, which `bench.load_surrogate` reads.

        Raises:
            UsageError: if the folder exists and is not empty.
        """
        target = Path(folder)
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise UsageError(f"{target} exists; choose a new folder")
        source, copy = Store.open(self.folder), Store(target)
        every = [key for m in range(self.members) for key in self.spec.state_keys(m)]
        own = [self.spec.fit_key(m) for m in range(self.members)]
        for key in dict.fromkeys([self.spec.fit_record, *own, *every]):
            for name, content in source.files(key).items():
                copy.write_bytes(name, content)
        preset = self.preset.model_dump(mode="json")
        copy.write(_SAVED, {"fit": self.spec.fit_record, "preset": preset, "method": self.pattern})

    def __repr__(self) -> str:
        return f"FittedSurrogate({self.label!r} on {self.task.name!r}, members={self.members})"


def fit(
    on: Task | str,
    method: str | type[Method] = "lre",
    *,
    budget: int = 100_000,
    members: int = 1,
    seed: int = 0,
    device: str = "auto",
    folder: str | os.PathLike[str] | None = None,
    plugins: Paths = (),
    objects: Sequence[Defined] = (),
    quiet: bool = False,
) -> FittedSurrogate:
    """Train members of a method on a task, in this process.

    The numbers are those of `bench run` with the same task, method, budget and seed.

    Args:
        on: the task, or its name.
        method: METHOD, METHOD:CONFIGURATION, or one with wrappers such as `calibrated(…)` and
            `ensemble(…,N)`, or a subclass of `bench.contracts.Method`. Without a configuration its
            first one is used.
        budget: simulator calls that each member may spend.
        members: number of independently trained members.
        seed: seed of simulations and training.
        device: "auto", "cpu" or "cuda".
        folder: results folder to keep and reuse fits in; a temporary one where None.
        plugins: files that define the task, the method or its wrappers.
        objects: tasks, methods and wrappers of this program that `on` and `method` name.
        quiet: whether to show no progress.

    Raises:
        UsageError: if a name or a value is wrong.
        NotApplicable: if the method cannot learn the task.
        BenchError: if training fails.

    Example:
        >>> surrogate = bench.fit("higgs", "lre", budget=20_000, members=2)  # doctest: +SKIP
    """
    if not isinstance(budget, int) or budget < 1:
        raise UsageError(f"budget = {budget!r} is not allowed: it must be an integer, at least 1")
    if isinstance(method, type) and issubclass(method, Wrapper):
        raise UsageError(
            f"{method.name!r} is a wrapper: write '{method.name}(METHOD)', and pass it in objects"
        )
    registry, name = registry_for(on, method, plugins, objects)
    wanted = completed(registry, method)
    pattern = MethodPattern.parse(wanted)
    preset = make_preset(
        tasks=(name,),
        methods=(wanted,),
        members=members * prod(wrapper.members for wrapper in configured(registry, pattern)),
        budgets=(budget,),
        seed=seed,
        device=device,
        plans=(_UNUSED,),
    )
    temporary = TemporaryFolder() if folder is None else None
    root = temporary.path if temporary is not None else Path(folder or "")
    planned = schedule(registry, preset, Store.open(root))
    spec = _spec_of(planned, wanted)
    own = [job for job in planned.jobs if isinstance(job, FitJob)]
    planned = replace(planned, specs=[spec], jobs=needed(own, [spec]))
    summary, *_ = perform(planned, ["bench.fit"], quiet=quiet, here=True)
    raise_failures(planned, summary)
    for absent in summary.absent:
        raise NotApplicable(absent.reason)
    return FittedSurrogate(planned.context, spec, preset, wanted, temporary)


def load_surrogate(
    folder: str | os.PathLike[str],
    *,
    plugins: Paths = (),
    objects: Sequence[Defined] = (),
    device: str = "auto",
) -> FittedSurrogate:
    """Read a surrogate that `FittedSurrogate.save` wrote.

    Args:
        folder: the folder.
        plugins: files that define its task, method or wrappers.
        objects: those of them that the program defined; they are taken to be what they were.
        device: "auto", "cpu" or "cuda".

    Raises:
        UsageError: if the folder holds no surrogate.
        PluginError: if the task or method has changed since.
    """
    store = Store.open(Path(folder))
    saved = schema.read(store, _SAVED)
    fit = None if saved is None else schema.read(store, saved["fit"])
    if saved is None or fit is None:
        problem = "holds no surrogate that FittedSurrogate.save wrote"
        raise UsageError(f"{folder} {problem if os.path.isdir(folder) else 'does not exist'}")
    spec = FitSpec(**{f.name: fit[f.name] for f in fields(FitSpec)})
    parts = parts_of(spec)
    for one, (_, name, plugin) in product(objects, parts):
        if getattr(one, "name", None) == name:
            adopt(one, plugin)
    registry = Registry(files_of(plugins), objects)
    for kind, name, plugin in parts:
        if name not in registry.names(kind):
            raise UsageError(
                f"{kind[:-1]} {name!r} of the surrogate is unknown; name its file in plugins, or "
                "pass it in objects"
            )
        item = registry.item(kind, name)
        if item.plugin_hash != plugin:
            raise PluginError(f"{item.place} has changed since the surrogate was saved")
    lists = {name: tuple(saved["preset"].get(name, ())) for name in ("tasks", "methods", "budgets")}
    preset = make_preset(**{**saved["preset"], **lists, "device": device, "plans": (_UNUSED,)})
    chosen = choose_device(device)
    context = JobContext(
        str(store.root.absolute()), registry.plugins, chosen, 0.0, registry.objects
    )
    return FittedSurrogate(context, spec, preset, saved["method"])


def completed(registry: Registry, method: str | type[Method]) -> str:
    """Return the pattern of a method, in its first configuration if it names none."""
    pattern = MethodPattern.parse(method if isinstance(method, str) else method.name)
    configurations = registry.method(pattern.method).configurations
    return pattern.written(pattern.configuration or next(iter(configurations)))


def registry_for(
    on: Task | str,
    method: str | type[Method],
    plugins: Paths,
    objects: Sequence[Defined] = (),
) -> tuple[Registry, str]:
    """Return the registry that knows a task, a method and other objects, and the task's name."""
    every = dict.fromkeys(one for one in (on, method, *objects) if not isinstance(one, str))
    registry = Registry(files_of(plugins), [*every])
    return registry, on if isinstance(on, str) else on.name


def needed(jobs: Sequence[MemberJob], specs: Sequence[FitSpec]) -> list[MemberJob]:
    """Return the jobs of some fits, and those that they wait for."""
    folders = {spec.folder for spec in specs}
    by_key = {job.key: job for job in jobs}
    waiting = [job.key for job in jobs if job.spec.folder in folders]
    kept: set[str] = set()
    while waiting:
        key = waiting.pop()
        if key not in kept:
            kept.add(key)
            waiting += by_key[key].after
    return [job for job in jobs if job.key in kept]


def _spec_of(planned: Schedule, wanted: str) -> FitSpec:
    """Return the fit that a pattern names.

    Raises:
        NotApplicable: if the method cannot learn the task.
        PluginError: if the task or the method is broken.
    """
    pattern = MethodPattern.parse(wanted)
    for spec in planned.specs:
        if names_fit(planned.registry, pattern, spec):
            return spec
    # The reason for this method before those for others, such as the exact likelihood.
    own = pattern.method, "every method"
    for absent in sorted(planned.absent, key=lambda a: not any(name in a.label for name in own)):
        kind_of = PluginError if absent.broken else NotApplicable
        raise kind_of(f"{absent.label} on {absent.task}: {absent.reason}")
    raise NotApplicable(f"{wanted} cannot learn {planned.preset.tasks[0]}")
