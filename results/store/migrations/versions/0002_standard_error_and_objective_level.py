"""the standard error of a measurement's throughput, and the level a trial's value was measured at

Rows that older versions wrote have neither: NULL.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("wideloop_measurement", sa.Column("output_tok_s_se", sa.Float(), nullable=True))
    op.add_column("wideloop_trial", sa.Column("concurrency", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("wideloop_trial", "concurrency")
    op.drop_column("wideloop_measurement", "output_tok_s_se")
