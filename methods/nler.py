"""Neural likelihood-to-evidence ratio (NLER), and its score-augmented variant (NLER-SA).

An encoder reads x, and a small smooth head reads the encoding and η. The classifier separates pairs
that were simulated together from pairs whose context is drawn anew (Hermans, Begy & Louppe 2020,
arXiv:1903.04057). NLER-SA matches its slopes to exact scores (Shen & Kuusela 2026). The context
enters after the encoder, so that slopes need a pass through the head only.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from bench.contracts import Task
from bench.nn.encoders import Encoder, encoder_of
from bench.nn.network_method import NetworkSettings
from bench.nn.networks import Activation
from bench.nn.ratio_method import PairMethod
from bench.nn.score_matching import LIGHT
from bench.nn.training import Training


class NLERConfig(NetworkSettings):
    """Configuration of NLER.

    Args:
        width: factor of the widths of encoder and head: 4, 8 and 14 give networks of about 3,000,
            10,000 and 30,000 parameters.
        training: settings of the training.
    """

    width: int = Field(default=14, ge=1)
    training: Training = Training(learning_rate=3e-3, batch_size=256, epochs=10, steps=4000)


class NLER(PairMethod):
    """Likelihood-to-evidence ratio with an encoder and a small head."""

    name = "nler"
    title = "Neural likelihood-to-evidence ratio"
    citation = "Hermans, Begy & Louppe (2020), arXiv:1903.04057"
    Config = NLERConfig
    configurations: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tuned": {},
        "10k": {"width": 8},
        "3k": {"width": 4},
    }
    search: ClassVar[Mapping[str, Sequence[Any]]] = {
        "training.learning_rate": (1e-3, 3e-3, 1e-2),
        "training.batch_size": (256, 1024),
    }
    config: NLERConfig

    def encoder(self, task: Task) -> Encoder:
        return encoder_of(task, self.config.width)

    def head(self) -> tuple[tuple[int, ...], Activation]:
        return (6 * self.config.width, 6 * self.config.width), "silu"

    def training(self, task: Task) -> Training:
        return self.config.training


ADAPTIVE = {"weights": "adaptive", "weight": 1.0}


class NLERSA(NLER):
    """NLER whose slopes are matched to the exact scores of its simulations, or to noisy ones."""

    name = "nler-sa"
    title = "Score-augmented likelihood-to-evidence ratio"
    family = "score-augmented"
    citation = "Shen & Kuusela (2026), arXiv:2605.12118"
    configurations: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tuned": {"scores": {}},
        "light": {"scores": LIGHT},
        "10k": {"scores": {}, "width": 8},
        "3k": {"scores": {}, "width": 4},
        "adaptive": {"scores": ADAPTIVE},
        "10k-adaptive": {"scores": ADAPTIVE, "width": 8},
        "3k-adaptive": {"scores": ADAPTIVE, "width": 4},
        "noise-0.01": {"scores": {"noise": 0.01}},
        "noise-0.1": {"scores": {"noise": 0.1}},
        "noise-0.5": {"scores": {"noise": 0.5}},
    }
