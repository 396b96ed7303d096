"""Who is still there? The posterior of what history does not show, from what it does.

Hidden per client: whether it has left, whether a continuation of the last session is pending, whether a complement is
wanted. Every session resets the first two, so all that matters is how long it has been silent since, and how often it
would have come. The filter below is exact for the process in `simulate` (but for the one day after leaving on which
nobody comes back). It never reads the hidden fields of `Clients` (`here`, `follow_on`, `wanted_on`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kit.data.shop.behaviour import BEHAVIOUR, Behaviour, Floats
from kit.data.shop.clients import Clients
from kit.data.shop.presets import CUT_DAY
from kit.data.shop.simulate import restock_hazard


@dataclass(frozen=True)
class Belief:
    """Per client, at the start of the cut's day; (n,) probabilities. NaN for clients without a session so far."""

    present: Floats
    follow: Floats
    """That a continuation is pending, given presence."""
    wanted: Floats
    """That a complement is wanted, given presence."""
    silence: Floats
    """Logarithm of the chance of no session since the last one."""


def believe(clients: Clients, cut: int = CUT_DAY, b: Behaviour = BEHAVIOUR) -> Belief:
    """Posterior of the hidden state of each client at `cut`, from its visible past."""
    state = _after_last_session(clients, b)
    pending = np.array([[[0.0, b.complement_rate], [b.follow_rate, b.follow_rate + b.complement_rate]]])  # (1, 2, 2)
    silence = np.where(clients.last_day >= 0, 0.0, np.nan)
    began = clients.last_day[clients.last_day >= 0]
    for day in range(int(began.min(initial=cut)), cut):
        silent = (clients.last_day >= 0) & (clients.last_day < day)
        state[silent], chance = _silent_day(state[silent], _steady_hazard(clients, day, b)[silent], pending)
        silence[silent] += np.log(chance)
        gone = (
            clients.last_day <= day
        )  # leaving and coming back happen at the end of every day from the last session on
        state[gone] = _presence_step(state[gone], b)
    state[clients.last_day < 0] = np.nan
    here = state[:, 1]
    present = here.sum(axis=(1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        return Belief(present, here[:, 1].sum(axis=1) / present, here[:, :, 1].sum(axis=1) / present, silence)


def _after_last_session(clients: Clients, b: Behaviour) -> Floats:
    """(n, 2, 2, 2) probabilities of (present, follow pending, complement wanted) right after the last session."""
    n = len(clients)
    follow = np.where(clients.follow < 0, 0.0, np.where(clients.follow_open, b.follow_open, b.follow))
    waited = np.exp(-b.complement_rate * np.maximum(clients.last_day - clients.wanted_day, 0))
    wanted = b.complement * waited / (1 - b.complement + b.complement * waited)
    wanted = np.where(clients.wanted < 0, 0.0, wanted)
    present = np.where(clients.last_day == clients.birth, 1 - clients.first_leave, 1.0)
    state = np.ones((n, 2, 2, 2))
    for axis, chance in enumerate((present, follow, wanted)):
        shape = [n, 1, 1, 1]
        shape[axis + 1] = 2
        state = state * np.stack([1 - chance, chance], axis=1).reshape(shape)
    return state


def _steady_hazard(clients: Clients, day: int, b: Behaviour) -> Floats:
    """(n,) hazard of browsing and restocking on a day, for a present client."""
    age = (day - clients.restock_day).astype(float)
    restock = restock_hazard(age, clients.restock_period, b.restock_shape)
    has = (clients.restock >= 0) & (clients.restock_day >= 0)
    return np.asarray(clients.rate * b.traffic(np.array([day]))[0] + np.where(has, restock, 0.0))


def _silent_day(state: Floats, steady: Floats, extra: Floats) -> tuple[Floats, Floats]:
    """Bayes: the chance that a present client stays silent all day falls with its hazards; an absent one always does.

    The state after that day, and the chance of its silence (n,).
    """
    state = state.copy()
    state[:, 1] *= np.exp(-(steady[:, None, None] + extra))
    chance = state.sum(axis=(1, 2, 3))
    return state / chance[:, None, None, None], chance


def _presence_step(state: Floats, b: Behaviour) -> Floats:
    away, here = state[:, 0], state[:, 1]
    return np.stack([away * (1 - b.comeback) + here * b.leave, here * (1 - b.leave) + away * b.comeback], axis=1)
