"""How many standard errors an interval over a few seeds spans: Student's t, without scipy, for pages and queries.

A few seeds say little about their spread: with the 1.96 of many, an interval over two seeds would hold the mean in 70 %
of all cases and one over three in 81 %, not in 95 %.

All intervals over seeds take this table, in queries, on pages and on the command line. Only tests between models take
scipy's function: they need probabilities, and degrees of freedom between two whole numbers.
"""

from __future__ import annotations

#: The 97.5 % quantile for infinitely many.
Z_95 = 1.95996398


def _many(freedom: int) -> float:
    """Fisher's expansion of the quantile in 1 / freedom; good to six digits above 30."""
    z, v = Z_95, freedom
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / v + second / v**2 + third / v**3


#: The 97.5 % quantile for 1, 2, 3, … degrees of freedom.
T_95 = (
    12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157, 2.228139,
    2.200985, 2.178813, 2.160369, 2.144787, 2.131450, 2.119905, 2.109816, 2.100922, 2.093024, 2.085963,
    2.079614, 2.073873, 2.068658, 2.063899, 2.059539, 2.055529, 2.051831, 2.048407, 2.045230, 2.042272,
    *(round(_many(freedom), 6) for freedom in range(31, 121)),
)  # fmt: skip


def standard_errors(seeds: int) -> float:
    """Half the width of a 95 % interval of a mean over that many seeds (two or more), in its standard errors.

    From 121 seeds on it stays what it is for 121, one percent above that of infinitely many.
    """
    return T_95[min(seeds - 1, len(T_95)) - 1]
