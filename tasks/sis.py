r"""SIS epidemic (susceptible–infected–susceptible) with imperfect counts: a hidden Markov model.

Of n individuals, I(t) are infected. The number increases by one at rate λ I (n − I)/n and decreases
by one at rate γ I, at random times. At T fixed times, the infected are counted; each is detected
with a fixed probability, so counts are binomial. The likelihood is exact by the forward algorithm
with the transition matrix :math:`e^{Q\Delta}`, the score by forward sensitivities (Shen & Kuusela
2026 use such scores for training).

Transition matrices come from uniformisation (Jensen 1953) and squaring. All terms are positive, so
small probabilities keep their relative accuracy and impossible transitions are exactly zero. The
eigendecomposition of the symmetrised generator is inaccurate: it loses a factor 10⁵ of precision at
n = 50, and all precision at n = 100.
"""

import math
from collections.abc import Mapping
from itertools import product

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from bench.contracts import Observation, Parameter, ParameterSpace, ReferenceKind, Split, Task

from .pairs import OfPairs, over_pairs

_SQUARINGS = 6
_STEP = 0.5  # largest product of rate and step length, before squaring
_SCALED = 4  # counts after which probabilities are scaled
_TERMS = 15  # terms of uniformisation: the next is 0.5¹⁵/15! = 2·10⁻¹⁷


class Outbreak:
    """Outbreak with counts of the infected at T times; context (λ, γ), event shape (T,).

    Args:
        population: n.
        infected: I(0).
        times: T.
        interval: time Δ between two counts; the first is after Δ.
        detection: probability that an infected individual is counted.
    """

    size = None

    def __init__(
        self,
        population: int = 50,
        infected: int = 5,
        times: int = 40,
        interval: float = 0.5,
        detection: float = 0.9,
    ) -> None:
        self.population = population
        self.infected = infected
        self.times = times
        self.interval = interval
        self.detection = detection
        states = torch.arange(population + 1, dtype=torch.float64)
        # Rates per unit of λ and of γ, up and down.
        self._up = states * (population - states) / population
        self._down = states
        whole = np.arange(population + 1)
        seen = stats.binom.pmf(whole, whole[:, None], detection)
        self._seen = torch.from_numpy(seen)  # (infected, counted)

    def simulate(self, context: Tensor, generator: torch.Generator) -> Tensor:
        flat = context.double().reshape(-1, 2)
        shared = len(flat) > 1 and bool((flat == flat[0]).all())
        infected = self.shared_path(flat, generator) if shared else self.path(flat, generator)
        p = torch.full_like(infected, self.detection)
        counts = torch.binomial(infected, p, generator=generator)
        return counts.float().reshape(*context.shape[:-1], self.times)

    def path(self, context: Tensor, generator: torch.Generator) -> Tensor:
        """Simulate each event of B outbreaks, (B, 2) to the numbers of infected (B, T), float64.

        The process has no memory, so waiting times can start anew at each count.
        """
        infected = torch.full((len(context),), float(self.infected), dtype=torch.float64)
        out = []
        for _ in range(self.times):
            row = torch.arange(len(context))
            now, left = infected, torch.full_like(infected, self.interval)
            while len(row):
                up = context[row, 0] * now * (self.population - now) / self.population
                total = up + context[row, 1] * now
                wait = torch.empty_like(now).exponential_(generator=generator) / total
                left = left - wait
                happens = left > 0  # if nobody is infected, the wait is infinite
                row, left, up, total = (v[happens] for v in (row, left, up, total))
                chosen = torch.rand(len(row), generator=generator, dtype=torch.float64)
                now = now[happens] + torch.where(chosen * total < up, 1.0, -1.0)
                infected[row] = now
            out.append(infected.clone())
        return torch.stack(out, -1)

    def shared_path(self, context: Tensor, generator: torch.Generator) -> Tensor:
        """Simulate B outbreaks at one context, from its transition matrix; returns as `path`."""
        steps = self.transition(context[:1])[0][0].cumsum(-1)
        infected = torch.full((len(context),), self.infected)
        out = []
        for _ in range(self.times):
            drawn = torch.rand(len(context), 1, generator=generator, dtype=torch.float64)
            drawn = drawn * steps[infected, -1:]
            infected = torch.searchsorted(steps[infected], drawn, right=True).squeeze(-1)
            out.append(infected.double())
        return torch.stack(out, -1)

    def transition(self, context: Tensor, slopes: bool = False) -> tuple[Tensor, Tensor | None]:
        """Return transition matrices over Δ, and their derivatives in the context.

        Args:
            context: (C, 2).
            slopes: whether to compute derivatives.

        Returns:
            (C, S, S) from row to column, S = n + 1, and (2, C, S, S) or None; float64.
        """
        rates = context.double()
        up, down = rates[:, :1] * self._up, rates[:, 1:] * self._down
        fastest = (up + down).amax(-1)
        longest = float((fastest.detach() * self.interval).max())
        squarings = max(_SQUARINGS, math.ceil(math.log2(max(longest, 1e-9) / _STEP)))
        mean = (fastest * self.interval / 2**squarings)[:, None, None]  # mean events per step
        scale = fastest[:, None]

        def times_generator(matrix: Tensor, rise: Tensor, fall: Tensor) -> Tensor:
            """Return matrix @ Q / q, for a generator Q given by its rates over q, (C or 1, S)."""
            out = matrix * -(rise + fall)[:, None]
            out[..., 1:] += matrix[..., :-1] * rise[:, None, :-1]
            out[..., :-1] += matrix[..., 1:] * fall[:, None, 1:]
            return out

        rise, fall = up / scale, down / scale
        term = torch.eye(self.population + 1, dtype=torch.float64).expand(len(rates), -1, -1)
        weight = torch.exp(-mean)
        total = weight * term
        nothing = torch.zeros_like(self._up)
        parts = [(self._up, nothing), (nothing, self._down)] if slopes else []
        terms = [torch.zeros_like(total) for _ in parts]
        totals = [torch.zeros_like(total) for _ in parts]
        for k in range(1, _TERMS):
            weight = weight * mean / k
            for j, (r, f) in enumerate(parts):
                moved = times_generator(term, r / scale, f / scale)
                terms[j] = terms[j] + times_generator(terms[j], rise, fall) + moved
                totals[j] = totals[j] + weight * terms[j]
            # 1 + Q/q has no negative entry, except for rounding on the diagonal.
            term = (term + times_generator(term, rise, fall)).clamp_min(0)
            total = total + weight * term
        for _ in range(squarings):
            totals = [d @ total + total @ d for d in totals]
            total = total @ total
        total = total / total.sum(-1, keepdim=True)  # removes errors of rounding and truncation
        return total, torch.stack(totals) if slopes else None

    def log_prob(self, x: Tensor, context: Tensor) -> Tensor:
        def of_pairs(counts: Tensor, contexts: Tensor) -> Tensor:
            steps, _ = self.transition(contexts)
            seen, possible = self._seen_as(counts)
            state = self._start(len(contexts), counts.shape[1])
            log_likelihood = torch.zeros(state.shape[:-1], dtype=torch.float64)
            for t in range(self.times):
                state = (state @ steps) * seen[..., t, :]
                if t % _SCALED == _SCALED - 1 or t == self.times - 1:
                    likelihood = state.sum(-1, keepdim=True)
                    log_likelihood += likelihood.squeeze(-1).log()
                    state = torch.where(likelihood > 0, state / likelihood, 0.0)
            return torch.where(possible, log_likelihood, -torch.inf)

        return self._over_pairs(of_pairs, x, context)

    def score(self, x: Tensor, context: Tensor) -> Tensor:
        def of_pairs(counts: Tensor, contexts: Tensor) -> Tensor:
            steps, slopes = self.transition(contexts, slopes=True)
            assert slopes is not None
            seen, _ = self._seen_as(counts)
            state = self._start(len(contexts), counts.shape[1])
            # Derivatives of the state, divided by the same likelihood as the state.
            moved = torch.zeros(2, *state.shape, dtype=torch.float64)
            for t in range(self.times):
                moved = (moved @ steps + state @ slopes) * seen[..., t, :]
                state = (state @ steps) * seen[..., t, :]
                likelihood = state.sum(-1, keepdim=True)
                state, moved = state / likelihood, moved / likelihood
            return moved.sum(-1).movedim(0, -1)

        return self._over_pairs(of_pairs, x, context)

    def _over_pairs(self, function: OfPairs, x: Tensor, context: Tensor) -> Tensor:
        states = self.population + 1
        return over_pairs(function, x, context, 1, per_context=8 * states**2, per_pair=states)

    def _start(self, contexts: int, observations: int) -> Tensor:
        state = torch.zeros(contexts, observations, self.population + 1, dtype=torch.float64)
        state[..., self.infected] = 1.0
        return state

    def _seen_as(self, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities of counts (…, T) by state (…, T, S), and whether all are valid."""
        possible = ((counts == counts.round()) & (counts >= 0) & (counts <= self.population)).all(
            -1
        )
        safe = torch.where(possible[..., None], counts, 0.0).long()
        return self._seen.T[safe], possible


class SIS(Task):
    """SIS epidemic with M outbreaks; both rates are of interest.

    Args:
        name: name of the task.
        observations: M.
    """

    title = "SIS epidemic, a hidden Markov model"
    version = 1
    citation = "Shen & Kuusela (2026), arXiv:2605.12118"
    event_shape = (40,)
    observation: Observation = "series"
    discrete = True
    reference: ReferenceKind = "evidence"
    nominal = torch.tensor([1.0, 0.4])

    def __init__(self, name: str = "sis", observations: int = 10) -> None:
        self.name, self.observations = name, observations
        self.space = ParameterSpace(
            [
                Parameter("lambda", 0.2, 2.5, "interest", (0.6, 1.4), "log", "λ", "1/time"),
                Parameter("gamma", 0.05, 1.2, "interest", (0.2, 0.6), "log", "γ", "1/time"),
            ],
            context=["lambda", "gamma"],
        )
        self.points = torch.tensor(
            list(product((0.6, 1.0, 1.4), (0.2, 0.4, 0.6))), dtype=torch.float64
        )
        self._outbreak = Outbreak()
        self.largest_count = self._outbreak.population

    def components(self, split: Split) -> Mapping[str, Outbreak]:
        return {"outbreak": self._outbreak}

    def summaries(self, x: Tensor) -> Tensor:
        """Return mean counts of the first fifth, which shows the growth, and of the second half."""
        times = self.event_shape[0]
        return torch.stack([x[..., : times // 5].mean(-1), x[..., times // 2 :].mean(-1)], -1)

    def weights(self, theta: Tensor) -> Tensor:
        return torch.ones_like(theta[..., :1])
