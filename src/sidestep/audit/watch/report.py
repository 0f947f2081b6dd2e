"""What watching a training says at one step."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple, Self

from sidestep.errors import BadRecords


class Rate(NamedTuple):
    """A share in [0, 1] with its 95 % Clopper-Pearson bounds."""

    share: float
    low: float
    high: float


class GivenBack(NamedTuple):
    """A training picture that copies were made of."""

    id: str
    caption: str | None
    copies: int
    similarity: float  # of the closest copy


@dataclass(frozen=True)
class Report:
    """The pictures made at one step, compared with the training pictures.

    Pictures of one prompt are not independent, so with several draws of each prompt the bounds of
    `rate` are too narrow.
    """

    step: int
    pictures: int
    copies: int
    rate: Rate  # copies among pictures
    similarity_mean: float  # to the nearest training picture
    similarity_p95: float
    given_back: tuple[GivenBack, ...]  # most often first; empty without a copy
    nfe: int  # network evaluations, all pictures together
    seconds: float  # for drawing and comparing; calibration and loggers come on top

    @property
    def values(self) -> dict[str, float]:
        """The numbers that make curves, by name."""
        return {
            "copies/rate": self.rate.share,
            "copies/low": self.rate.low,
            "copies/high": self.rate.high,
            "similarity/mean": self.similarity_mean,
            "similarity/p95": self.similarity_p95,
            "cost/nfe": float(self.nfe),
            "cost/seconds": self.seconds,
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        given = [g._asdict() for g in self.given_back]
        return asdict(self) | {"rate": self.rate._asdict(), "given_back": given}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The report `to_dict` came from; BadRecords if a field is unknown or missing."""
        try:
            if set(values) != {f.name for f in fields(cls)}:
                raise TypeError("fields are missing or unknown")
            given = tuple(GivenBack(**g) for g in values["given_back"])
            return cls(**{**values, "rate": Rate(**values["rate"]), "given_back": given})
        except TypeError as error:
            raise BadRecords(f"this is no report of this version ({error})") from error
