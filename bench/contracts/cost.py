"""What a member costs, in counts that depend on shapes alone, and how fast machines count."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Speed:
    """What one kind of network reaches in this suite's own loops on one device.

    Args:
        training: floating-point operations per second of gradient steps.
        evaluation: the same of evaluations.
        step: seconds that a gradient step takes beyond its operations.
    """

    training: float
    evaluation: float
    step: float


@dataclass(frozen=True)
class Work:
    """What it takes to train one member, and to evaluate it. Operations are products and sums.

    Args:
        steps: gradient steps, of all its networks.
        rows: events that pass forwards and backwards, of all its networks and epochs.
        training: operations for such an event.
        evaluation: operations for an event at one context, all components.
        cpu: how fast one core is.
        gpu: how fast one GPU is, where it can use one; the core's where it cannot.
        encoding: operations for an event whatever the number of contexts, all components.
        pairs: events times contexts that are evaluated in the course of training.
    """

    steps: float
    rows: float
    training: float
    evaluation: float
    cpu: Speed
    gpu: Speed
    encoding: float = 0.0
    pairs: float = 0.0
