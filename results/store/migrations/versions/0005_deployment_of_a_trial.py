"""the name of a trial's deployment, below which its files are

Rows that older versions wrote have none: an empty name.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    name = sa.Column("deployment", sa.String(length=100), nullable=False, server_default="")
    op.add_column("wideloop_trial", name)


def downgrade() -> None:
    op.drop_column("wideloop_trial", "deployment")
