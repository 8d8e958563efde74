"""Training data as batches: columns in memory, cut without copying rows one by one, or a stream."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler, Subset

from deepscm.errors import DataError
from deepscm.scm import SCM
from deepscm.training.sampling import Augment, Sampled
from deepscm.variables import Image, Variable


def derive(*parts: Any) -> int:
    """A seed from other values; different values give unrelated seeds."""
    text = "/".join(str(part) for part in parts).encode()
    return (zlib.crc32(text) << 31) ^ zlib.adler32(text[::-1])


class Table:
    """Checked columns in memory, each as compact as it came (bytes stay bytes until they are in a batch).

    Args:
        columns: `(N, *shape)` tensors by name.
    """

    def __init__(self, columns: dict[str, Tensor]) -> None:
        self.columns = columns

    @classmethod
    def of(cls, data: Any, scm: SCM, names: set[str], where: str) -> Table:
        """Columns `names` of a dict or a DataFrame.

        Raises:
            DataError: missing columns, missing values, wrong shapes, columns of different lengths.
        """
        lacking = sorted(name for name in names if name not in data)
        if lacking:
            there = [str(name) for name in data]
            more = f" and {len(there) - 20} more" if len(there) > 20 else ""
            raise DataError(f"{where}: column(s) {', '.join(lacking)} are missing; it has "
                            f"{', '.join(there[:20]) or 'none'}{more}. Add them, or fit other nodes with nodes=[...].")
        columns = {name: _column(scm, name, data[name], where) for name in sorted(names)}
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1:
            raise DataError(f"{where}: columns of different lengths came: {lengths}; give one value for each row.")
        return cls(columns)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def rows(self, index: Tensor | slice) -> dict[str, Tensor]:
        """Some rows of every column."""
        return {name: column[index.to(column.device) if isinstance(index, Tensor) else index]
                for name, column in self.columns.items()}

    def split(self, share: float, seed: int) -> tuple[Table, Table]:
        """Two tables, the second with `share` of the rows, chosen by `seed`."""
        count = _held_out(len(self), share)
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(derive(seed, "split")))
        return Table(self.rows(order[count:])), Table(self.rows(order[:count]))


class Batches:
    """Batches of a table: all rows once an epoch, in an order that depends on the seed and the epoch alone.

    Rows are dealt evenly, so there is no small last batch. With several processes each takes its share of every batch;
    the batches as a whole do not depend on how many there are.

    Args:
        table: the data.
        size: most rows in a batch, over all processes.
        seed: of the order; None for the table's own order, as validation has it.
        weights: probability of each row, `(N,)`; rows are then drawn with replacement.
        augment: changes of the image columns named in `images`.
        rows: of an epoch, drawn at random where they are fewer than all; all by default.
    """

    def __init__(
        self, table: Table, size: int, seed: int | None = None, weights: Tensor | None = None,
        augment: Augment | None = None, images: Sequence[str] = (), rows: int | None = None,
    ) -> None:
        self.table, self.size, self.seed, self.epoch = table, size, seed, 0
        self.weights, self.augment, self.images = weights, augment, tuple(images)
        self.rows = len(table) if rows is None or (weights is None and rows > len(table)) else rows
        self.rank, self.processes = 0, 1

    def share(self, rank: int, processes: int) -> None:
        """Take the part of one of several processes."""
        self.rank, self.processes = rank, processes

    def __len__(self) -> int:
        return -(-self.rows // self.size)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        order = torch.arange(len(self.table))
        if self.seed is not None:
            generator = torch.Generator().manual_seed(derive(self.seed, "order", self.epoch))
            order = (torch.randperm(len(self.table), generator=generator)[: self.rows] if self.weights is None else
                     torch.multinomial(self.weights, self.rows, replacement=True, generator=generator))
        changes = torch.Generator().manual_seed(derive(self.seed, "augment", self.epoch))
        for batch in order.tensor_split(len(self)):
            # A batch with fewer rows than processes is given to all: none may stay without work.
            alone = len(batch) < self.processes
            part = slice(None) if alone else slice(self.rank, None, self.processes)
            rows = self.table.rows(batch[part])
            if self.augment is not None:
                moves = self.augment.draw(len(batch), changes)[part]
                rows |= {name: self.augment.apply(rows[name], moves) for name in self.images}
            yield rows


class Stream:
    """Batches of a DataLoader, checked one by one.

    Args:
        loader: yields dicts of columns.
        scm: the model that they are for.
        names: the columns to take.
        seed: of the loader's own shuffling.
    """

    def __init__(self, loader: Any, scm: SCM, names: set[str], seed: int, where: str) -> None:
        self.loader, self.scm, self.names, self.seed, self.where = loader, scm, names, seed, where
        self.epoch = 0
        try:
            self.length: int | None = len(loader)
        except TypeError:
            self.length = None

    def share(self, rank: int, processes: int) -> None:
        """Take the part of one of several processes, where the loader can be divided."""
        batches = getattr(self.loader, "batch_sampler", None)
        if isinstance(batches, Dealt):
            batches.batches.share(rank, processes)
        elif processes > 1 and plain(self.loader):
            shuffled = isinstance(self.loader.sampler, RandomSampler)
            dealt = Dealt(len(self.loader.dataset), self.loader.batch_size, self.seed if shuffled else None)
            dealt.batches.share(rank, processes)
            self.loader = DataLoader(self.loader.dataset, batch_sampler=dealt, num_workers=self.loader.num_workers,
                                     collate_fn=self.loader.collate_fn, pin_memory=self.loader.pin_memory)
            self.length = len(self.loader)

    def __len__(self) -> int:
        if self.length is None:
            raise TypeError("a stream of unknown length")
        return self.length

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        seed = derive(self.seed, "stream", self.epoch)
        sampler = getattr(self.loader, "sampler", None)
        for source in (self.loader, sampler, getattr(self.loader, "batch_sampler", None)):
            if isinstance(getattr(source, "generator", None), torch.Generator):
                source.generator.manual_seed(seed)  # type: ignore[union-attr]
            if callable(getattr(source, "set_epoch", None)):
                source.set_epoch(self.epoch)  # type: ignore[union-attr]
        torch.manual_seed(seed)
        for batch in self.loader:
            if not isinstance(batch, Mapping):
                raise DataError(f"{self.where}: the loader gave a {type(batch).__name__}; dicts of columns are "
                                "expected.")
            yield Table.of(batch, self.scm, self.names, self.where).columns


Source = Batches | Stream


def source(
    data: Any, scm: SCM, names: set[str], size: int, seed: int, where: str, *, shuffle: bool = True, workers: int = 0
) -> Source:
    """Batches from a dict, a DataFrame, either of them `Sampled`, a Dataset or a DataLoader.

    Raises:
        DataError: another type, no rows, or columns that do not fit the model.
    """
    if isinstance(data, Sampled):
        return _sampled(data, scm, names, size, seed, where)
    if isinstance(data, Table):
        return Batches(data, size, seed if shuffle else None)
    if tabular(data):
        return Batches(Table.of(data, scm, names, where), size, seed if shuffle else None)
    if isinstance(data, DataLoader):
        loader = data
    elif isinstance(data, IterableDataset):
        loader = DataLoader(data, size, num_workers=workers)
    elif isinstance(data, Dataset):
        if len(data) == 0:  # type: ignore[arg-type]
            raise DataError(f"{where}: an empty dataset came; at least one row is expected.")
        dealt = Dealt(len(data), size, seed if shuffle else None)  # type: ignore[arg-type]
        loader = DataLoader(data, batch_sampler=dealt, num_workers=workers, persistent_workers=workers > 0)
    else:
        raise DataError(f"{where}: a {type(data).__name__} came; a dict of columns, a DataFrame, a torch Dataset or a "
                        "DataLoader of dicts is expected.")
    return Stream(loader, scm, names, seed, where)


def _sampled(data: Sampled, scm: SCM, names: set[str], size: int, seed: int, where: str) -> Batches:
    if not (isinstance(data.data, Table) or tabular(data.data)):
        raise DataError(f"{where}: a {type(data.data).__name__} came to be balanced or augmented; a dict of columns or "
                        "a DataFrame is expected. A DataLoader brings its own sampler.")
    table = data.data if isinstance(data.data, Table) else Table.of(data.data, scm, names, where)
    images = [name for name in table.columns if name in scm and isinstance(scm.variables[name], Image)]
    return Batches(table, size, seed, data.weights(table.columns, where), data.augment, images, data.rows)


class Dealt:
    """Batches of row numbers for a Dataset, dealt as `Batches` deals them."""

    def __init__(self, rows: int, size: int, seed: int | None) -> None:
        self.batches = Batches(Table({"row": torch.arange(rows)}), size, seed)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of this epoch."""
        self.batches.epoch = epoch

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.batches:
            yield batch["row"].tolist()


def tabular(data: Any) -> bool:
    """Whether data are columns in memory: a dict, or a DataFrame."""
    return isinstance(data, Mapping) or (hasattr(data, "columns") and not isinstance(data, Dataset))


def split(data: Any, share: float, scm: SCM, names: set[str], seed: int) -> tuple[Any, Any]:
    """Training and validation part of in-memory data or of a Dataset.

    Raises:
        DataError: an impossible share, or data that cannot be split.
    """
    if isinstance(data, Sampled):
        rest, held_out = split(data.data, share, scm, names, seed)
        return dataclasses.replace(data, data=rest), held_out
    if tabular(data):
        return Table.of(data, scm, names, "training data").split(share, seed)
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        count = _held_out(len(data), share)  # type: ignore[arg-type]
        generator = torch.Generator().manual_seed(derive(seed, "split"))
        order = torch.randperm(len(data), generator=generator).tolist()  # type: ignore[arg-type]
        return Subset(data, order[count:]), Subset(data, order[:count])
    raise DataError(f"validation={share} came with a {type(data).__name__}, which cannot be split; give validation "
                    "data of its own.")


def _held_out(rows: int, share: float) -> int:
    if not 0 < share < 1:
        raise DataError(f"validation={share} came; a share between 0 and 1, or validation data, is expected.")
    count = max(1, round(rows * share))
    if count >= rows:
        raise DataError(f"validation={share} of {rows} row(s) leaves nothing to train on; give more rows.")
    return count


def plain(loader: Any) -> bool:
    """Whether a loader is made of a dataset and a batch size, so that its batches can be dealt anew."""
    return (isinstance(loader, DataLoader) and isinstance(loader.sampler, (RandomSampler, SequentialSampler))
            and loader.batch_size is not None)


def _column(scm: SCM, name: str, value: Any, where: str) -> Tensor:
    if name not in scm and scm.labels is not None and name in scm.labels:
        return scm.labels.column(name, value, f"{where}, {name}")
    if name not in scm:  # an objective's own column
        tensor = torch.as_tensor(value)
        if not torch.isfinite(tensor).all():
            raise DataError(f"{where}, {name}: NaN or infinite values came; finite values are expected.")
        return tensor
    variable = scm.variables[name]
    label = f"{where}, {name}"
    device = value.device if isinstance(value, Tensor) else "cpu"
    if isinstance(variable, Image) and str(getattr(value, "dtype", "")).endswith("uint8") and len(value):
        first = variable.check(value[:1], label, device=device)  # bytes are finite; only the shape can be wrong
        tensor = value if isinstance(value, Tensor) else torch.from_numpy(_writable(value))
        return tensor.reshape(len(value), *first.shape[1:])
    return variable.check(value, label, scm[name].dtype, device).detach()


def _writable(array: Any) -> Any:
    return array if array.flags.writeable else array.copy()


def convert(
    batch: Mapping[str, Tensor], variables: Mapping[str, Variable], dtypes: Mapping[str, torch.dtype]
) -> dict[str, Tensor]:
    """A batch in the variables' own types, on whatever device it is."""
    return {name: variables[name].convert(value, dtypes[name]) if name in variables else value
            for name, value in batch.items()}


def gather(batches: Source, limit: int) -> dict[str, Tensor]:
    """The first `limit` rows or so of a stream, or a whole table."""
    if isinstance(batches, Batches):
        return batches.table.columns
    parts: list[dict[str, Tensor]] = []
    count = 0
    for batch in batches:
        parts.append(batch)
        count += len(next(iter(batch.values())))
        if count >= limit:
            break
    if not parts:
        raise DataError(f"{batches.where}: an empty stream came; at least one row is expected.")
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
