"""power, energy and telemetry of the GPUs of a measurement

Rows that older versions wrote have none: NULL.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("wideloop_measurement", sa.Column("gpu_power_w", sa.Float(), nullable=True))
    op.add_column("wideloop_measurement", sa.Column("output_tok_per_joule", sa.Float(), nullable=True))
    op.add_column("wideloop_measurement", sa.Column("telemetry", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("wideloop_measurement", "telemetry")
    op.drop_column("wideloop_measurement", "output_tok_per_joule")
    op.drop_column("wideloop_measurement", "gpu_power_w")
