"""gemmlowp's own headers give our integers, on a million random products."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from stages.integer.fixed_point import (
    INT32_MAX,
    INT32_MIN,
    multiply_by_quantized_multiplier,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
)

SOURCE = r"""
#include <cstdint>
#include <cstdio>
#include <vector>
#include <gemmlowp/fixedpoint/fixedpoint.h>

int main() {
  std::int32_t row[3];
  std::vector<std::int32_t> found;
  while (std::fread(row, sizeof row, 1, stdin) == 1) {
    const std::int32_t high = gemmlowp::SaturatingRoundingDoublingHighMul(row[0], row[1]);
    found.push_back(high);
    found.push_back(gemmlowp::RoundingDivideByPOT(row[0], row[2]));
    found.push_back(gemmlowp::RoundingDivideByPOT(high, row[2]));
  }
  return std::fwrite(found.data(), 4, found.size(), stdout) != found.size();
}
"""


@pytest.mark.skipif(
    not Path("/usr/include/gemmlowp/fixedpoint/fixedpoint.h").exists(),
    reason="needs apt package libgemmlowp-dev",
)
def test_gemmlowps_headers_give_our_integers(tmp_path):
    """Doubling high products, divisions by powers of two, and both in turn, the extremes among them."""
    rng = np.random.default_rng(0)
    count = 1_000_000
    a, b = rng.integers(INT32_MIN, INT32_MAX + 1, (2, count))
    extremes = rng.random((2, count)) < 0.05
    ends = rng.choice([INT32_MIN, INT32_MAX, 0, 1, -1, 2**30, -(2**30)], (2, count))
    a, b = (np.where(at, end, x) for at, end, x in zip(extremes, ends, (a, b), strict=True))
    a = np.where(rng.random(count) < 0.5, a >> rng.integers(0, 31, count), a)
    exponent = rng.integers(0, 32, count)
    (tmp_path / "oracle.cpp").write_text(SOURCE)
    build = ["g++", "-O2", "-std=c++11", "oracle.cpp", "-o", "oracle"]
    subprocess.run(build, cwd=tmp_path, check=True, capture_output=True)
    rows = np.stack([a, b, exponent], axis=1).astype(np.int32)
    done = subprocess.run([tmp_path / "oracle"], input=rows.tobytes(), capture_output=True, check=True)
    high, divided, both = np.frombuffer(done.stdout, np.int32).reshape(count, 3).T
    np.testing.assert_array_equal(high, saturating_rounding_doubling_high_mul(a, b))
    np.testing.assert_array_equal(divided, rounding_divide_by_pot(a, exponent))
    held = b >= 0  # as multipliers are
    np.testing.assert_array_equal(both[held], multiply_by_quantized_multiplier(a, b, -exponent)[held])
