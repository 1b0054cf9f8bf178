# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Places MIG instances on a card, or says why they do not fit.

A placement is a profile, the memory slice on which it begins, and how many it takes. The search tries every allowed
start, so what it refuses is impossible.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.errors import AcceleratorError, joined
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.request import pci_id
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.tables import MigBoard, MigProfile, Tables

Commands = Tuple[Tuple[str, ...], ...]


@dataclass(frozen=True)
class Placement:
    """One GPU instance; C(start) and C(size) are memory slices."""

    profile: str
    start: int
    size: int
    compute: int


@dataclass(frozen=True)
class Layout:
    """Placements by start, or C(refusal), one sentence.

    C(enable), C(clear) and C(create) are the arguments of nvidia-smi, command by command.
    """

    board: str
    placements: Tuple[Placement, ...] = ()
    refusal: str = ""
    free_memory_slices: int = 0
    free_compute_slices: int = 0
    enable: Commands = ()
    clear: Commands = ()
    create: Commands = ()


def _board(card: Any, tables: Tables) -> Tuple[Optional[MigBoard], str]:
    """The board of a PCI id, or one called by its name; else why there is none."""
    by_name = {board.name: board for board in tables.boards}
    if str(card) in by_name:
        return by_name[str(card)], ""
    try:
        number = pci_id(card)
    except AcceleratorError:
        known = joined(by_name, "or")
        raise AcceleratorError(f"card is {card!r}; give its PCI id, such as 10de:2330, or one of {known}.") from None
    found = tables.card(number or "")
    if found is None:
        return None, f"No table knows the card {card}, so MIG cannot be laid out on it; leave its MIG layout empty."
    if found.mig is None:
        return None, f"{found.name} has no MIG; leave its MIG layout empty."
    if found.mig not in by_name:
        return None, f"The MIG profiles of {found.name} are not in the table; lay it out by hand with nvidia-smi."
    return by_name[found.mig], ""


def _names(wanted: Any) -> List[str]:
    """Profiles as a list, from a list of names or from counts by name."""
    if isinstance(wanted, Mapping):
        for name, count in wanted.items():
            if isinstance(count, bool) or not isinstance(count, int) or count < 0:
                raise AcceleratorError(f"the MIG layout wants {count!r} of {name}; give a whole number.")
        return [str(name) for name, count in wanted.items() for _turn in range(count)]
    if isinstance(wanted, (str, bytes)) or not isinstance(wanted, Sequence):
        raise AcceleratorError(f"the MIG layout is {wanted!r}; give a list of profiles or counts by profile.")
    return [str(name) for name in wanted]


def _unknown(names: Sequence[str], board: MigBoard) -> str:
    known = [profile.name for profile in board.profiles]
    foreign = [name for name in names if name not in known]
    return f"{board.title} has no MIG profile {foreign[0]}; choose among {joined(known)}." if foreign else ""


def _too_much(profiles: Sequence[MigProfile], board: MigBoard) -> str:
    """Why no arrangement needs to be tried."""
    for name, count in Counter(profile.name for profile in profiles).items():
        most = next(profile.count for profile in profiles if profile.name == name)
        if count > most:
            return f"{board.title} takes {name} {most} times at most, and {count} are wanted; leave out {count - most}."
    media = [profile.name for profile in profiles if profile.media]
    if len(media) > 1:
        return f"{board.title} has one set of media extensions, and {joined(media)} each take it; keep one of them."
    for what, total in (("memory", board.memory_slices), ("compute", board.compute_slices)):
        needed = sum(profile.memory if what == "memory" else profile.compute for profile in profiles)
        if needed > total:
            return f"{board.title} has {total} {what} slices, and {needed} are wanted; take fewer or smaller profiles."
    return ""


def _search(profiles: Sequence[MigProfile], taken: int = 0, least: int = 0) -> Optional[Tuple[int, ...]]:
    """Starts for these profiles; C(taken) has a bit for each memory slice in use.

    Equal profiles stand together, and begin one behind the other: their order makes no other layout.
    """
    if not profiles:
        return ()
    first, rest = profiles[0], profiles[1:]
    for start in first.starts:
        mask = ((1 << first.memory) - 1) << start
        if start < least or taken & mask:
            continue
        same = bool(rest) and rest[0].name == first.name
        found = _search(rest, taken | mask, start + 1 if same else 0)
        if found is not None:
            return (start, *found)
    return None


def _arguments(placements: Sequence[Placement], gpu: Optional[int]) -> Tuple[Commands, Commands, Commands]:
    card = () if gpu is None else ("-i", str(gpu))
    instances = ",".join(f"{each.profile}:{each.start}" for each in placements)
    create: Commands = (("mig", *card, "-cgi", instances, "-C"),) if placements else ()
    return ((*card, "-mig", "1"),), (("mig", *card, "-dci"), ("mig", *card, "-dgi")), create


def mig_layout(card: Any, wanted: Any, tables: Tables, gpu: Optional[int] = None) -> Layout:
    """Where the wanted profiles lie on the card; C(gpu) is the index that the commands name.

    AcceleratorError for what makes no sense; what cannot be is a refusal.
    """
    board, why = _board(card, tables)
    names = _names(wanted)
    if board is None:
        return Layout("", refusal=why)
    refusal = _unknown(names, board)
    profiles = [profile for profile in map(board.profile, names) if profile is not None]
    refusal = refusal or _too_much(profiles, board)
    if refusal:
        return Layout(board.name, refusal=refusal)
    # The largest first, since they have the fewest starts.
    ordered = sorted(profiles, key=lambda each: (-each.memory, -each.compute, each.name))
    starts = _search(ordered)
    if starts is None:
        return Layout(
            board.name,
            refusal=f"{joined(names)} fit into the slices of {board.title}, but no allowed placement holds them all; "
            "take a smaller one or leave one out.",
        )
    return _layout(board, ordered, starts, gpu)


def _layout(board: MigBoard, profiles: Sequence[MigProfile], starts: Sequence[int], gpu: Optional[int]) -> Layout:
    placed = [Placement(each.name, start, each.memory, each.compute) for each, start in zip(profiles, starts)]
    placements = tuple(sorted(placed, key=lambda each: each.start))
    enable, clear, create = _arguments(placements, gpu)
    return Layout(
        board.name,
        placements,
        free_memory_slices=board.memory_slices - sum(each.size for each in placements),
        free_compute_slices=board.compute_slices - sum(each.compute for each in placements),
        enable=enable,
        clear=clear,
        create=create,
    )
