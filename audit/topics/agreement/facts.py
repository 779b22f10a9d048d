"""What the agreement study measures besides its matrix."""

from __future__ import annotations

from audit.core.evidence import Facts


class AgreementFacts(Facts):
    """Which methods were compared.

    Attributes:
        methods: Those with maps, in the order of the matrix.
        left_out: Those without.
    """

    methods: tuple[str, ...]
    left_out: tuple[str, ...] = ()
