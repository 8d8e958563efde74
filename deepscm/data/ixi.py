"""IXI: real brains with age, sex and volumes, in three tables and 50 slabs of T1 images (IXI: CC BY-SA 3.0).

| what | subjects | columns |
|---|---|---|
| `table("volumes")` | 181 of one hospital | sex, age, brain, ventricle |
| `table("ventricles")` | 563 of three | sex, age, ventricle, and a brain volume calibrated on the 181 |
| `load(part)` | 50 of the 181 | 32 axial slices each, with all of these |

Volumes are ml; `ventricle` is the two lateral ventricles. These are few people: what is fitted on them is uncertain.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from deepscm.data import crops, source, subjects
from deepscm.data.parts import require
from deepscm.errors import DataError, FormatError, NotFoundError

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[Any]
Part = Literal["train", "validation", "test"]
SLAB, VOLUMES, VENTRICLES = "ixi_t1_2mm_slab.npz", "ixi_hh_dlmuse_181.csv", "ixi_ventricles_linearindices.csv"
STEP = 2.0  # mm between slices, and between pixels before they are made smaller
_WINDOW = (96, 96)  # pixels of 2 mm: the paper's 192 mm
_NEEDED = {
    VOLUMES: ("MRID", "Age", "Sex", "701", "51", "52"),
    VENTRICLES: ("ixi_id", "age", "sex", "lateral_ventricle_mm3", "supratentorial_mm3"),
}
_RANGES = {"age": (0.0, 120.0), "brain": (300.0, 2500.0), "ventricle": (0.5, 500.0)}


@dataclass(frozen=True)
class Slices:
    """Rows of one part, one for each axial slice.

    Attributes:
        columns: sex int64 (1 is male); age (years), brain and ventricle (ml) and height (mm above the lowest slice)
            float32; image uint8 `(N, 1, size, size)`. The front of the head is above.
        subject: the person's number in IXI, int64 `(N,)`.
        ventricle_mask: the share of each pixel that lateral ventricles cover, float32 `(N, size, size)`.
    """

    columns: dict[str, Array]
    subject: Array
    ventricle_mask: Array

    def __len__(self) -> int:
        return len(self.subject)


def folder(root: str | os.PathLike[str] | None = None) -> Path:
    """Where the files lie: `root` alone if given, else `brain` in `$DEEPSCM_DATA`, then the user's cache.

    Raises:
        NotFoundError: nowhere.
    """
    places = source.candidates("brain", root)
    for place in places:
        if (place / SLAB).is_file() or any(source.find("brain", (f"{name}.gz",), place) for name in _NEEDED):
            return place
    raise NotFoundError(f"IXI was not found in {', '.join(map(str, places))}; put {SLAB}, {VOLUMES} and {VENTRICLES} "
                        "(.gz or not) there, or set DEEPSCM_DATA to the folder above.")


def parts(root: str | os.PathLike[str] | None = None) -> dict[str, Array]:
    """The recorded split: the IXI numbers in each part. A person is in the same part in every table and slab.

    The 50 people with images are split 34, 8 and 8, all others apart from them, by 70, 15 and 15 %.
    """
    place = folder(root)
    pictured = np.unique(_archive(place)["subject"])
    others = np.setdiff1d(np.concatenate([_volumes(place).index, _indices(place).index]), pictured)
    groups = [{part: people[rows] for part, rows in subjects.split(people, seed=7).items()}
              for people in (pictured, others)]
    made = {part: np.sort(np.concatenate([group[part] for group in groups])) for part in subjects.PARTS}
    subjects.check(made, "IXI")
    return made


def table(
    which: Literal["volumes", "ventricles"] = "volumes", part: Part | None = None,
    root: str | os.PathLike[str] | None = None,
) -> dict[str, Array]:
    """Covariates of people, one row each.

    The larger table has the volume above the tentorium instead of the brain's. Its `brain` is a power of that volume,
    fitted on the 181 people who are in both tables (errors of 1.9 %).

    Args:
        which: "volumes" (181 people) or "ventricles" (563 of 566, whose age is known).
        part: "train", "validation" or "test"; None for everybody.
        root: the folder to look in, alone.

    Returns:
        subject int64, sex int64 (1 is male), age (years), brain and ventricle (ml) float32, `(N,)` each.

    Raises:
        NotFoundError: the file is nowhere.
        FormatError: a table that lacks columns, or has cells that are no numbers.
        DataError: an unknown table or part, a value outside its range.
    """
    place = folder(root)
    if which not in ("volumes", "ventricles"):
        raise DataError(f"which={which!r} came; volumes or ventricles is expected.")
    frame = _volumes(place) if which == "volumes" else _calibrated(_indices(place), _volumes(place))
    if part is not None:
        require(part)
        frame = frame[frame.index.isin(parts(root)[part])]
    return {"subject": frame.index.to_numpy(np.int64), **_columns(frame)}


def load(
    part: Part = "train", *, size: int = 64, count: int = 0, seed: int = 0, root: str | os.PathLike[str] | None = None,
) -> Slices:
    """Axial slices of the 50 people with images: 34, 8 and 8 of them, 32 slices each.

    The middle 192 mm are brought to `size` pixels. Random crops have their middle up to 8 mm away.

    Args:
        part: "train", "validation" or "test".
        size: height and width of the images, at most 96.
        count: random crops of every slice; 0 for the middle crop alone.
        seed: of the crops.
        root: the folder to look in, alone.

    Raises:
        NotFoundError: the files are nowhere.
        FormatError: a damaged file.
        DataError: a person without covariates, an unknown part.
    """
    require(part)
    place = folder(root)
    archive, known = _archive(place), _volumes(place)
    chosen = np.flatnonzero(np.isin(archive["subject"], parts(root)[part]))
    person = archive["subject"][chosen]
    absent = sorted(set(person.tolist()) - set(known.index))
    if absent:
        raise DataError(f"{place / SLAB}: {absent[:5]} have images but no row in {VOLUMES}; add their rows.")
    depth = archive["t1"].shape[-1]
    slices = [_axial(archive[name][chosen]) for name in ("t1", "seg")]
    slices[1] = np.where(slices[1] == 2, np.uint8(255), np.uint8(0))
    if count:
        cropped = [crops.random_crop(each, _WINDOW, seed, count, reach=4) for each in slices]
    else:
        cropped = [crops.centre_crop(each, _WINDOW) for each in slices]
    image, mask = (crops.shrink(each, (size, size)) for each in cropped)
    rows = np.tile(np.repeat(person, depth), max(count, 1))
    height = np.tile(STEP * np.arange(depth, dtype=np.float32), len(rows) // depth)
    columns = {**_columns(known.loc[rows]), "height": height, "image": image[:, None]}
    return Slices(columns, rows, (mask / np.float32(255)).astype(np.float32))


def _axial(slabs: Array) -> Array:
    """Slabs `(N, X, Y, Z)` as slices `(N Z, H, W)` on a canvas with room for crops, the front above."""
    slices = slabs.transpose(0, 3, 2, 1)[:, :, ::-1].reshape(-1, slabs.shape[2], slabs.shape[1])
    return crops.pad(slices, (_WINDOW[0] + 8, _WINDOW[1] + 8))


def _archive(place: Path) -> dict[str, Array]:
    path = place / SLAB
    try:
        with np.load(path, allow_pickle=False) as archive:
            made = {name: archive[name] for name in ("mrid", "t1", "seg")}
    except FileNotFoundError as error:
        raise NotFoundError(f"{path}: this file is missing; put it there, or set DEEPSCM_DATA.") from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise FormatError(f"{path}: no archive with mrid, t1 and seg came ({error}). Fetch it again.") from error
    if made["t1"].ndim != 4 or made["t1"].shape != made["seg"].shape or len(made["t1"]) != len(made["mrid"]):
        raise FormatError(f"{path}: t1 {made['t1'].shape} and seg {made['seg'].shape} came for {len(made['mrid'])} "
                          "subjects; (N, X, Y, Z) is expected of both. Fetch it again.")
    return {"subject": np.array([_number(name, path) for name in made.pop("mrid")], dtype=np.int64), **made}


def _number(name: Any, path: Path) -> int:
    """The number in a name such as "IXI012-HH-1211"."""
    digits = str(name).removeprefix("IXI").split("-")[0]
    if not digits.isdecimal():
        raise FormatError(f"{path}: a subject {name!r} came; a name such as IXI012-HH-1211 is expected.")
    return int(digits)


def _frame(place: Path, name: str) -> pd.DataFrame:
    import pandas as pd

    found = source.find("brain", (f"{name}.gz",), place)
    if found is None:
        raise NotFoundError(f"{place}: {name} (.gz or not) is missing; put it there, or set DEEPSCM_DATA.")
    path = found[f"{name}.gz"]
    try:
        frame = pd.read_csv(path)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise FormatError(f"{path}: no CSV table came ({error}). Fetch it again.") from error
    lacking = [column for column in _NEEDED[name] if column not in frame]
    if lacking:
        raise FormatError(f"{path}: the columns {lacking} are missing; {list(_NEEDED[name])} are expected.")
    return frame


def _volumes(place: Path) -> pd.DataFrame:
    """sex, age, brain, ventricle of the 181, by number."""
    frame = _frame(place, VOLUMES)
    lateral = (frame["51"] + frame["52"]) / 1000
    return _people(place / VOLUMES, [_number(name, place / VOLUMES) for name in frame["MRID"]],
                   frame["Sex"].map({"F": 0, "M": 1}), age=frame["Age"], brain=frame["701"] / 1000, ventricle=lateral)


def _indices(place: Path) -> pd.DataFrame:
    """sex, age, ventricle and upper (the volume above the tentorium) of the 563 whose age is known, by number."""
    frame = _frame(place, VENTRICLES)
    frame = frame[frame["age"].notna()]
    return _people(place / VENTRICLES, frame["ixi_id"].tolist(), frame["sex"].map({"Female": 0, "Male": 1}),
                   age=frame["age"], ventricle=frame["lateral_ventricle_mm3"] / 1000,
                   upper=frame["supratentorial_mm3"] / 1000)


def _people(path: Path, numbers: list[int], sex: Any, **reals: Any) -> pd.DataFrame:
    """A checked table by subject."""
    import pandas as pd

    frame = pd.DataFrame({"sex": sex, **reals})
    frame.index = pd.Index(numbers, name="subject")
    for name, column in frame.items():
        low, high = _RANGES.get(str(name), (0.0, 1e9))
        bad = frame.index[~((column >= low) & (column <= high))]
        if len(bad):
            raise DataError(f"{path}: {name} of subject(s) {bad[:5].tolist()} is {column[bad[:5]].tolist()}; values in "
                            f"{low:g}..{high:g} are expected. Correct them, or remove those rows.")
    if not frame.index.is_unique:
        raise FormatError(f"{path}: subject(s) {frame.index[frame.index.duplicated()][:5].tolist()} came twice.")
    return frame


def _calibrated(frame: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """`frame` with a brain volume from the volume above the tentorium, by a straight line between logarithms."""
    both = frame.index.intersection(known.index)
    if len(both) < 10:
        raise DataError(f"{len(both)} subject(s) are in both tables; at least 10 are needed to calibrate.")
    slope, level = np.polyfit(np.log(frame.loc[both, "upper"]), np.log(known.loc[both, "brain"]), 1)
    return frame.assign(brain=np.exp(level + slope * np.log(frame["upper"])))


def _columns(frame: pd.DataFrame) -> dict[str, Array]:
    reals = {name: frame[name].to_numpy(np.float32) for name in ("age", "brain", "ventricle")}
    return {"sex": frame["sex"].to_numpy(np.int64), **reals}
