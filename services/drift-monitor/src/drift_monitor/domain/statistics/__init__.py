"""Two-sample tests on counts. Every p-value is exact where that is cheap, and conservative elsewhere."""

from drift_monitor.domain.statistics.chi_square import chi_square
from drift_monitor.domain.statistics.correction import AlphaSpending, holm
from drift_monitor.domain.statistics.exceedance import exceedance
from drift_monitor.domain.statistics.kolmogorov import kolmogorov_smirnov
from drift_monitor.domain.statistics.outcome import Outcome

__all__ = ["AlphaSpending", "Outcome", "chi_square", "exceedance", "holm", "kolmogorov_smirnov"]
