"""Colours of figures: distinct for all viewers and pages, independent of other labels."""

import itertools

import numpy as np
import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("pandas")

from matplotlib.colors import to_rgb

from bench.report.figures import INK, looks
from bench.report.figures.colours import PALETTE


def luminance(colour):
    c = np.asarray(to_rgb(colour))
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


# Machado, Oliveira & Fernandes, IEEE Trans. Vis. Comput. Graph. 15 (2009) 1291, severity 1.
VISION = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def oklab(colour, vision):
    """Return the OKLab coordinates (Björn Ottosson, 2020) of a colour as seen."""
    c = np.asarray(to_rgb(colour))
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.asarray(vision) @ linear, 0, 1)
    cones = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.asarray(lab) @ np.cbrt(cones @ seen)


@pytest.mark.parametrize("colour", PALETTE)
@pytest.mark.parametrize("page", ["#ffffff", "#111111"])
def test_colours_stand_out_from_light_and_dark_pages(colour, page):
    assert contrast(colour, page) >= 3


@pytest.mark.parametrize("vision", VISION)
def test_colours_can_be_told_apart(vision):
    seen = [oklab(colour, VISION[vision]) for colour in PALETTE]
    apart = min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2))
    assert apart >= (0.14 if vision == "normal" else 0.08)  # 0.02 is a just noticeable difference


def test_built_ins_keep_their_colours_in_any_company():
    alone, together = looks(["lre:tuned"]), looks(["zzz", "lre:tuned", "dle", "aaa", "exact"])
    assert alone["lre:tuned"] == together["lre:tuned"]
    assert together["exact"].colour == INK


def test_configurations_share_a_colour_and_differ_otherwise():
    labels = ["lre:tuned", "lre:published", "lre:unnormalised", "ensemble(lre:tuned,5)"]
    found = looks(labels)
    assert len({look.colour for look in found.values()}) == 1
    assert len({(look.fill, look.dashes) for look in found.values()}) == len(labels)
    assert found["lre:tuned"].fill == "full"


def test_strangers_get_colours_of_their_own_while_there_are_some():
    labels = [f"method-{i}" for i in range(8)]
    assert len({look.colour for look in looks(labels).values()}) == 8
    assert looks(labels) == looks(reversed(labels))
    many = looks([f"method-{i}" for i in range(16)])
    assert len({(look.colour, look.marker) for look in many.values()}) == 16
