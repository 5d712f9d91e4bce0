"""Cost of a member, counted from shapes, and the speed of machines."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Speed:
    """Speed of one kind of network on one device, measured in this suite's own loops.

    Args:
        training: floating-point operations per second of gradient steps.
        evaluation: floating-point operations per second of evaluations.
        step: seconds of a gradient step beyond those of its operations.
    """

    training: float
    evaluation: float
    step: float


@dataclass(frozen=True)
class Work:
    """Cost of training and evaluating one member.

    Operations are products and sums.

    Args:
        steps: gradient steps of all its networks.
        rows: events in forward and backward passes, over all its networks and epochs.
        training: operations per such event.
        evaluation: operations per event and context, for all components.
        cpu: speed of one core.
        gpu: speed of one GPU, or of the core where the member cannot use a GPU.
        encoding: operations per event that do not depend on the number of contexts, for all
            components.
        pairs: events times contexts that are evaluated during training.
    """

    steps: float
    rows: float
    training: float
    evaluation: float
    cpu: Speed
    gpu: Speed
    encoding: float = 0.0
    pairs: float = 0.0
