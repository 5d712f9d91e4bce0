"""Interfaces of tasks, methods and other plugins: the lowest layer, above seeds and errors."""

from bench.contracts.bank import Bank, DatasetDraw, Draw, Simulations, TrainingData, equal_draws
from bench.contracts.component import Component, FiniteComponent, HasLogProb, HasScore
from bench.contracts.constraint import Constraint
from bench.contracts.cost import Speed, Work
from bench.contracts.data import Data
from bench.contracts.diagnostic import (
    Diagnostic,
    Evidence,
    Finding,
    Ratios,
    Samples,
    Weights,
)
from bench.contracts.events import EventsOfSet
from bench.contracts.features import Features
from bench.contracts.method import (
    ComponentMethod,
    ComponentSurrogate,
    FitContext,
    FitLog,
    Method,
    Settings,
    Surrogate,
    TrainingCurve,
)
from bench.contracts.metric import Metric, PlanKind
from bench.contracts.pairs import HasPairs, log_ratio_paired
from bench.contracts.parameters import Parameter, ParameterSpace
from bench.contracts.plan import BootstrapPlan, HeldOutPlan, IndependentPlan, Plan
from bench.contracts.prediction import (
    BoxSummary,
    BoxWindow,
    Datasets,
    HeldOut,
    HeldOutPrediction,
    LatticeWindow,
    LikelihoodPrediction,
    PosteriorDraws,
    ProfileSummary,
)
from bench.contracts.sampling import HasSamples, sample
from bench.contracts.simulation_files import StoredSimulations, read_simulations
from bench.contracts.simulator import Simulator, from_command
from bench.contracts.stored import StoredTask
from bench.contracts.task import Log, Observation, ReferenceKind, Resolution, Split, Task, Transform
from bench.contracts.wrapper import Wrapped, Wrapper

__all__ = [
    "Bank",
    "BootstrapPlan",
    "BoxSummary",
    "BoxWindow",
    "Component",
    "ComponentMethod",
    "ComponentSurrogate",
    "Constraint",
    "Data",
    "DatasetDraw",
    "Datasets",
    "Diagnostic",
    "Draw",
    "EventsOfSet",
    "Evidence",
    "Features",
    "Finding",
    "FiniteComponent",
    "FitContext",
    "FitLog",
    "HasLogProb",
    "HasPairs",
    "HasSamples",
    "HasScore",
    "HeldOut",
    "HeldOutPlan",
    "HeldOutPrediction",
    "IndependentPlan",
    "LatticeWindow",
    "LikelihoodPrediction",
    "Log",
    "Method",
    "Metric",
    "Observation",
    "Parameter",
    "ParameterSpace",
    "Plan",
    "PlanKind",
    "PosteriorDraws",
    "ProfileSummary",
    "Ratios",
    "ReferenceKind",
    "Resolution",
    "Samples",
    "Settings",
    "Simulations",
    "Simulator",
    "Speed",
    "Split",
    "StoredSimulations",
    "StoredTask",
    "Surrogate",
    "Task",
    "TrainingCurve",
    "TrainingData",
    "Transform",
    "Weights",
    "Work",
    "Wrapped",
    "Wrapper",
    "equal_draws",
    "from_command",
    "log_ratio_paired",
    "read_simulations",
    "sample",
]
