"""Shapes painted on batches of pictures, against the same shapes sampled at many points of every pixel."""

from __future__ import annotations

import numpy as np
import pytest

from deepscm.data.shapes import Canvas

SIZE, FINE = 16, 32
PLACE = (np.arange(SIZE * FINE) + 0.5) / FINE
X, Y = PLACE[None, :], PLACE[:, None]


def part(inside):
    """Which part of each pixel a region covers, `(SIZE, SIZE)`."""
    return np.broadcast_to(inside, (SIZE * FINE,) * 2).reshape(SIZE, FINE, SIZE, FINE).mean((1, 3))


def cover(canvas, row=0):
    return (255 - canvas.pixels[row, 0].astype(float)) / 255


def along(x, y, to_x, to_y):
    """How far each point is along the line between two points and aside from it, and the line's length."""
    length = np.hypot(to_x - x, to_y - y)
    ahead = (to_x - x) / length, (to_y - y) / length
    return (X - x) * ahead[0] + (Y - y) * ahead[1], (Y - y) * ahead[0] - (X - x) * ahead[1], length


@pytest.mark.parametrize(("x", "y", "radius", "tall"), [
    (8.0, 8.0, 4.0, 1.0), (7.3, 9.1, 2.6, 1.0), (6.2, 8.7, 5.0, 0.6), (1.0, 15.5, 3.0, 1.3), (-1.0, 8.0, 3.0, 1.0),
])
def test_discs(x, y, radius, tall):
    canvas = Canvas(1, SIZE)
    canvas.disc(x, y, radius, (0, 0, 0), tall=tall)
    expected = part(((X - x) / radius) ** 2 + ((Y - y) / (radius * tall)) ** 2 < 1)
    assert np.abs(cover(canvas) - expected).max() < 0.12
    assert cover(canvas).sum() == pytest.approx(expected.sum(), rel=0.015)


@pytest.mark.parametrize("ends", [(3.0, 4.0, 12.0, 4.0), (3.2, 3.1, 11.4, 12.8), (12.0, 2.0, 9.0, 13.0)])
@pytest.mark.parametrize("round", [False, True])
def test_rods(ends, round):
    canvas = Canvas(1, SIZE)
    canvas.rod(ends[:2], ends[2:], 3.0, (0, 0, 0), round=round)
    far, aside, length = along(*ends)
    flat = (np.abs(aside) < 1.5) & (far > 0) & (far < length)
    caps = (np.hypot(X - ends[0], Y - ends[1]) < 1.5) | (np.hypot(X - ends[2], Y - ends[3]) < 1.5)
    expected = part(flat | caps if round else flat)
    assert np.abs(cover(canvas) - expected).max() < 0.25  # at the corners of slanted ends
    assert cover(canvas).sum() == pytest.approx(expected.sum(), rel=0.02)


def test_rectangles_are_exact_and_one_a_row():
    canvas = Canvas(2, SIZE)
    left, right = np.array([2.25, 9.5]), np.array([6.5, 14.0])
    canvas.rectangle(left, 3.5, right, 4.75, (0, 0, 0))
    for row in range(2):
        expected = part((left[row] < X) & (right[row] > X) & (Y > 3.5) & (Y < 4.75))
        np.testing.assert_allclose(cover(canvas, row), expected, atol=0.003)


def test_the_frame_cuts_off_what_reaches_beyond():
    canvas = Canvas(1, SIZE, frame=(4.0, 2.5, 12.0, 20.0))
    canvas.disc(4.0, 3.0, 3.0, (0, 0, 0))
    canvas.rectangle(10.0, 1.0, 15.0, 3.0, (0, 0, 0))
    disc = part(((X - 4) ** 2 + (Y - 3) ** 2 < 9) & (X > 4) & (Y > 2.5))
    box = part((X > 10) & (X < 12) & (Y > 2.5) & (Y < 3))
    np.testing.assert_allclose(cover(canvas)[:, 8:], box[:, 8:], atol=0.003)
    assert np.abs(cover(canvas)[:, :8] - disc[:, :8]).max() < 0.12


def test_later_shapes_cover_earlier_ones_and_colours_are_one_a_row():
    canvas = Canvas(2, SIZE, (10, 20, 30))
    canvas.rectangle(0, 0, 8, 8, (200, 100, 0))
    canvas.rectangle(4, 4, 12, 12, [[0, 0, 255], [0, 255, 0]])
    assert canvas.pixels[:, :, 15, 15].tolist() == [[10, 20, 30]] * 2
    assert canvas.pixels[:, :, 2, 2].tolist() == [[200, 100, 0]] * 2
    assert canvas.pixels[:, :, 6, 6].tolist() == [[0, 0, 255], [0, 255, 0]]


def test_glows_fade_to_nothing_at_their_radius():
    canvas = Canvas(1, SIZE)
    canvas.glow(8.5, 8.5, 5.0, (0, 0, 0))
    distance = np.hypot(np.arange(SIZE) - 8, 0)
    expected = np.maximum(1 - (distance / 5) ** 2, 0) ** 2
    np.testing.assert_allclose(cover(canvas)[8], expected, atol=0.003)


def test_shapes_out_of_sight_change_nothing():
    canvas = Canvas(1, SIZE)
    canvas.disc(-30.0, 8.0, 3.0, (0, 0, 0))
    canvas.rectangle(20, 20, 30, 30, (0, 0, 0))
    canvas.rod((40.0, 1.0), (50.0, 5.0), 2.0, (0, 0, 0), round=True)
    assert (canvas.pixels == 255).all()
