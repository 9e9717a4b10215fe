"""What plots are drawn of: two models on the same rows, of every task, from a seed."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cd4ml.promotion.paired import Paired, Said
from cd4ml.promotion.review import Interval, MetricJudged, Review, Ruler, SliceJudged, Standing
from cd4ml.promotion.story import Point
from cd4ml.spec.experiment import Direction

DAY = 86_400
START = 1_383_264_000  # 2013-11-01


def ruler_of(rows: int) -> Ruler:
    """A ruler of so many rows, none of them dropped."""
    return Ruler("0" * 64, rows, rows, 100)


def regression(rows: int = 5000, seed: int = 1, days: float = 61) -> Paired:
    """Delays in minutes: skewed, and both models see only part of it."""
    random = np.random.default_rng(seed)
    signal = random.gamma(2.0, 12.0, rows) - 15
    observed = signal + random.normal(0, 8, rows) + random.exponential(6, rows)
    times = np.sort(random.uniform(START, START + days * DAY, rows))
    drift = (times - START) / (61 * DAY) * 6
    champion = 0.7 * signal + random.normal(4, 5, rows) + drift
    challenger = 0.82 * signal + random.normal(3, 4, rows) + drift * 0.3
    return Paired("regression", (), observed, Said(champion), Said(challenger), ruler_of(rows), times=times)


def binary(rows: int = 5000, seed: int = 1) -> Paired:
    """One in five is late; the champion ranks a little worse."""
    random = np.random.default_rng(seed)
    observed = (random.random(rows) < 0.2).astype(np.float64)
    times = random.uniform(START, START + 400 * DAY, rows)

    def said(strength: float) -> Said:
        score = 1 / (1 + np.exp(-(observed * strength - 1.8 + random.normal(0, 1, rows))))
        return Said((score > 0.4).astype(np.float64), np.column_stack([1 - score, score]))

    return Paired("binary", ("on time", "late"), observed, said(1.3), said(1.8), ruler_of(rows), times=times)


def multiclass(rows: int = 5000, classes: int = 5, seed: int = 1) -> Paired:
    """Neighbouring classes are taken for each other."""
    random = np.random.default_rng(seed)
    observed = np.minimum(random.geometric(0.35, rows) - 1, classes - 1).astype(np.float64)

    def said(width: float) -> Said:
        return Said(np.clip(np.round(observed + random.normal(0, width, rows)), 0, classes - 1))

    names = tuple(f"carrier {chr(65 + number % 26)}{number}" for number in range(classes))
    return Paired("multiclass", names, observed, said(0.7), said(0.5), ruler_of(rows))


def metric(
    name: str, direction: Direction, champion: float, challenger: float, reach: float, standing: Standing = "better"
) -> MetricJudged:
    """A metric judged, its interval ``reach`` to both sides of the change."""
    change = challenger - champion
    interval = Interval(change - reach, change + reach)
    relative = change / abs(champion) if champion else None
    return MetricJudged(name, direction, champion, challenger, change, relative, interval, interval, standing)


def review_of(metrics: tuple[MetricJudged, ...] | None = None, primary: str = "mae") -> Review:
    """A review with metrics of every standing, and two slices that got worse."""
    usual = (
        metric("rmse", "minimize", 14.2, 13.9, 0.4, "no real difference"),
        metric("mae", "minimize", 9.41, 8.87, 0.2),
        metric("r2", "maximize", 0.412, 0.447, 0.012),
        metric("max_error", "minimize", 201.0, 214.0, 40.0, "no real difference"),
        metric("medae", "minimize", 7.1, 7.3, 0.15, "worse"),
    )
    slices = tuple(
        SliceJudged("carrier", value, 412, "mae", 8.0, 8.8, 0.8, Interval(0.2, 1.4), "worse") for value in ("OO", "HA")
    )
    given = usual if metrics is None else metrics
    return Review(
        "exp/deeper", "main", "c" * 40, "b" * 40, "head", "better", "", primary=primary, metrics=given, slices=slices
    )


def story_of(count: int = 120, seed: int = 2) -> tuple[Point, ...]:
    """Results that slowly get better, a few far off; the last is this run."""
    random = np.random.default_rng(seed)
    values = 11.5 - 2.2 * np.linspace(0, 1, count) ** 0.5 + random.exponential(0.6, count)
    values[::29] += 30
    points = [Point(order, float(value), f"exp/{order}", "other") for order, value in enumerate(values)]
    best = int(np.argmin(values[: count * 2 // 3]))
    points[best] = Point(best, float(values[best]), "main", "champion")
    points[-1] = Point(count - 1, float(values[:-1].min()) - 0.2, "exp/deeper", "this")
    return tuple(points)


def importance_of(count: int = 30) -> tuple[tuple[str, float, float], ...]:
    """Features with falling importance; the last ones hurt."""
    names = ("scheduled_departure_hour", "carrier", "weather_visibility", "temp", "distance", "wind_gust")
    return tuple(
        (f"{names[place % len(names)]}_{place}" if place >= len(names) else names[place], 2.4 * 0.8**place - 0.01, 0.05)
        for place in range(count)
    )


CURVES = {"validation rmse": tuple((float(step), 9 * 0.97**step + 8, 9 * 0.985**step + 9) for step in range(120))}


@dataclass(frozen=True)
class Image:
    """A PNG taken apart: ``pixels`` are uint8 (height, width, 4), ``chunks`` its parts by name, in order."""

    pixels: npt.NDArray[np.uint8]
    chunks: tuple[tuple[str, bytes], ...]


def image_of(png: bytes) -> Image:
    """Read a PNG whose every checksum is right."""
    import io

    from PIL import Image as Pillow

    chunks, position = [], 8
    while position < len(png):
        size = int.from_bytes(png[position : position + 4], "big")
        name, data = png[position + 4 : position + 8], png[position + 8 : position + 8 + size]
        assert zlib.crc32(name + data) == int.from_bytes(png[position + 8 + size : position + 12 + size], "big")
        chunks.append((name.decode(), data))
        position += 12 + size
    return Image(np.asarray(Pillow.open(io.BytesIO(png)).convert("RGBA")), tuple(chunks))
