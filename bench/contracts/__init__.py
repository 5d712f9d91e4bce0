"""What a task, a method and a metric promise: the lowest layer; it imports only bench.errors."""

from bench.contracts.bank import Bank, Simulations
from bench.contracts.component import Component, HasLogProb, HasScore
from bench.contracts.features import Features
from bench.contracts.method import (
    ComponentMethod,
    ComponentSurrogate,
    Config,
    FitLog,
    Method,
    Run,
    Surrogate,
    TrainingCurve,
)
from bench.contracts.metric import Metric
from bench.contracts.parameters import Parameter, ParameterSpace
from bench.contracts.plan import BootstrapPlan, HeldOutPlan, IndependentPlan, Plan
from bench.contracts.prediction import (
    Curves,
    Datasets,
    HeldOutPrediction,
    LikelihoodPrediction,
)
from bench.contracts.task import Log, ReferenceKind, Resolution, Split, Task, Transform

__all__ = [
    "Bank",
    "BootstrapPlan",
    "Component",
    "ComponentMethod",
    "ComponentSurrogate",
    "Config",
    "Curves",
    "Datasets",
    "Features",
    "FitLog",
    "HasLogProb",
    "HasScore",
    "HeldOutPlan",
    "HeldOutPrediction",
    "IndependentPlan",
    "LikelihoodPrediction",
    "Log",
    "Method",
    "Metric",
    "Parameter",
    "ParameterSpace",
    "Plan",
    "ReferenceKind",
    "Resolution",
    "Run",
    "Simulations",
    "Split",
    "Surrogate",
    "Task",
    "TrainingCurve",
    "Transform",
]
