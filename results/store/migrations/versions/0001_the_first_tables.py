"""the first tables"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "wideloop_asset",
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("key", sa.String(length=250), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("verified_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("kind", "key"),
    )
    op.create_table(
        "wideloop_cycle",
        sa.Column("cycle_id", sa.String(length=250), nullable=False),
        sa.Column("dag_id", sa.String(length=250), nullable=False),
        sa.Column("dag_run_id", sa.String(length=250), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("engine", sa.String(length=100), nullable=False),
        sa.Column("target", sa.String(length=100), nullable=False),
        sa.Column("simulated", sa.Boolean(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("hardware", sa.Text(), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("study", sa.String(length=250), nullable=False),
        sa.Column("planned_trials", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("cycle_id"),
    )
    op.create_index(op.f("ix_wideloop_cycle_started_at"), "wideloop_cycle", ["started_at"], unique=False)
    op.create_table(
        "wideloop_measurement",
        sa.Column("cycle_id", sa.String(length=250), nullable=False),
        sa.Column("purpose", sa.String(length=20), nullable=False),
        sa.Column("label", sa.String(length=200), nullable=False),
        sa.Column("trial_number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("repeat", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("concurrency", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("spec_fingerprint", sa.String(length=64), nullable=False),
        sa.Column("image", sa.Text(), nullable=False),
        sa.Column("engine", sa.String(length=100), nullable=False),
        sa.Column("simulated", sa.Boolean(), nullable=False),
        sa.Column("workload_fingerprint", sa.String(length=64), nullable=False),
        sa.Column("isl", sa.Integer(), nullable=False),
        sa.Column("osl", sa.Integer(), nullable=False),
        sa.Column("gpus", sa.Integer(), nullable=False),
        sa.Column("decode_gpus", sa.Integer(), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("errors", sa.Integer(), nullable=False),
        sa.Column("output_tok_s", sa.Float(), nullable=False),
        sa.Column("input_tok_s", sa.Float(), nullable=False),
        sa.Column("request_s", sa.Float(), nullable=False),
        sa.Column("ttft_ms_mean", sa.Float(), nullable=False),
        sa.Column("ttft_ms_p50", sa.Float(), nullable=False),
        sa.Column("ttft_ms_p99", sa.Float(), nullable=False),
        sa.Column("tpot_ms_mean", sa.Float(), nullable=False),
        sa.Column("tpot_ms_p50", sa.Float(), nullable=False),
        sa.Column("tpot_ms_p99", sa.Float(), nullable=False),
        sa.Column("request_ms_mean", sa.Float(), nullable=False),
        sa.Column("request_ms_p99", sa.Float(), nullable=False),
        sa.Column("osl_mean", sa.Float(), nullable=False),
        sa.Column("duration_s", sa.Float(), nullable=False),
        sa.Column("gates", sa.JSON(), nullable=False),
        sa.Column("artefact", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["cycle_id"], ["wideloop_cycle.cycle_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("cycle_id", "purpose", "label", "trial_number", "repeat", "concurrency"),
    )
    op.create_index(
        op.f("ix_wideloop_measurement_spec_fingerprint"), "wideloop_measurement", ["spec_fingerprint"], unique=False
    )
    op.create_table(
        "wideloop_recommendation",
        sa.Column("cycle_id", sa.String(length=250), nullable=False),
        sa.Column("study", sa.String(length=250), nullable=False),
        sa.Column("trial_number", sa.Integer(), nullable=False),
        sa.Column("verdict", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("knobs", sa.JSON(), nullable=False),
        sa.Column("default_knobs", sa.JSON(), nullable=False),
        sa.Column("gain", sa.Float(), nullable=False),
        sa.Column("gain_low", sa.Float(), nullable=False),
        sa.Column("gain_high", sa.Float(), nullable=False),
        sa.Column("confidence", sa.Float(), nullable=False),
        sa.Column("pairs", sa.Integer(), nullable=False),
        sa.Column("slo_met", sa.Boolean(), nullable=False),
        sa.Column("simulated", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["cycle_id"], ["wideloop_cycle.cycle_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("cycle_id"),
    )
    op.create_table(
        "wideloop_recording",
        sa.Column("cycle_id", sa.String(length=250), nullable=False),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("simulated", sa.Boolean(), nullable=False),
        sa.Column("artefact", sa.Text(), nullable=False),
        sa.Column("layers", sa.Integer(), nullable=False),
        sa.Column("experts", sa.Integer(), nullable=False),
        sa.Column("tokens", sa.Integer(), nullable=False),
        sa.Column("ep", sa.Integer(), nullable=False),
        sa.Column("balancedness", sa.Float(), nullable=False),
        sa.Column("balancedness_placed", sa.Float(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["cycle_id"], ["wideloop_cycle.cycle_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("cycle_id", "role"),
    )
    op.create_table(
        "wideloop_stage",
        sa.Column("cycle_id", sa.String(length=250), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("gpu_seconds", sa.Float(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["cycle_id"], ["wideloop_cycle.cycle_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("cycle_id", "name"),
    )
    op.create_table(
        "wideloop_trial",
        sa.Column("study", sa.String(length=250), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("cycle_id", sa.String(length=250), nullable=False),
        sa.Column("dag_run_id", sa.String(length=250), nullable=False),
        sa.Column("point", sa.JSON(), nullable=False),
        sa.Column("knobs", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("constraints", sa.JSON(), nullable=False),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.Column("gpu_seconds", sa.Float(), nullable=False),
        sa.Column("phases", sa.JSON(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["cycle_id"], ["wideloop_cycle.cycle_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("study", "number"),
    )
    op.create_index(op.f("ix_wideloop_trial_cycle_id"), "wideloop_trial", ["cycle_id"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_wideloop_trial_cycle_id"), table_name="wideloop_trial")
    op.drop_table("wideloop_trial")
    op.drop_table("wideloop_stage")
    op.drop_table("wideloop_recording")
    op.drop_table("wideloop_recommendation")
    op.drop_index(op.f("ix_wideloop_measurement_spec_fingerprint"), table_name="wideloop_measurement")
    op.drop_table("wideloop_measurement")
    op.drop_index(op.f("ix_wideloop_cycle_started_at"), table_name="wideloop_cycle")
    op.drop_table("wideloop_cycle")
    op.drop_table("wideloop_asset")
