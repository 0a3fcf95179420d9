"""Wilson's score interval: how well a share is known that was counted on so many samples.

    ``(p + z²/2n ± z · sqrt(p(1−p)/n + z²/4n²)) / (1 + z²/n)``,   p the share, n the samples,

z the normal quantile of ``(1 + confidence) / 2``. Unlike ``p ± z · sqrt(p(1−p)/n)`` it stays within 0..1, and
has a width where all samples are right.

Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the American
Statistical Association 22 (1927).
"""

from __future__ import annotations

import math

from scipy.special import ndtri


def wilson(share: float, samples: int, confidence: float = 0.95) -> tuple[float, float]:
    """The ends of the interval.

    Args:
        share: counted, 0..1.
        samples: it was counted on, at least 1.
        confidence: that the interval holds the true share, between 0 and 1.
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share={share}: must be 0..1")
    if samples < 1:
        raise ValueError(f"samples={samples}: must be at least 1")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence={confidence}: must be between 0 and 1")
    z = float(ndtri((1.0 + confidence) / 2.0))
    middle = share + z * z / (2 * samples)
    half = z * math.sqrt(share * (1.0 - share) / samples + (z / (2 * samples)) ** 2)
    scale = 1.0 + z * z / samples
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)
