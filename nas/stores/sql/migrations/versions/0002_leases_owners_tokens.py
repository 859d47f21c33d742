"""Leases, owners, wishes and idempotent keys of jobs; tokens; indices for paging."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

NEW_COLUMNS = ("owner", "key", "priority", "wanted", "workers", "driver", "lease_until", "fence")


def upgrade() -> None:
    """Apply."""
    for column in (
        sa.Column("owner", sa.String(200), nullable=False, server_default=""),
        sa.Column("key", sa.String(200), nullable=True),
        sa.Column("priority", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("wanted", sa.String(16), nullable=True),
        sa.Column("workers", sa.Integer(), nullable=True),
        sa.Column("driver", sa.String(200), nullable=True),
        sa.Column("lease_until", sa.Double(), nullable=True),
        sa.Column("fence", sa.Integer(), nullable=False, server_default="0"),
    ):
        op.add_column("jobs", column)
    op.drop_index("ix_jobs_created_at", "jobs")
    op.create_index("ix_jobs_newest", "jobs", ["created_at", "job_id"])
    op.create_index("ix_jobs_state_newest", "jobs", ["state", "created_at", "job_id"])
    op.create_index("ix_jobs_owner_newest", "jobs", ["owner", "created_at", "job_id"])
    op.create_index("ux_jobs_owner_key", "jobs", ["owner", "key"], unique=True)
    op.drop_index("ix_trials_job_state", "trials")
    op.create_index("ix_trials_state", "trials", ["job_id", "state", "number"])
    op.create_index("ix_trials_fidelity", "trials", ["job_id", "fidelity", "number"])
    op.drop_index("ix_trials_candidate", "trials")
    op.create_index("ix_trials_candidate", "trials", ["job_id", "candidate_key", "number"])
    op.create_table(
        "tokens",
        sa.Column("token_id", sa.String(32), primary_key=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("owner", sa.String(200), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.Column("digest", sa.String(64), nullable=False, unique=True),
    )


def downgrade() -> None:
    """Revert; what the new columns held is lost."""
    op.drop_table("tokens")
    op.drop_index("ix_trials_candidate", "trials")
    op.create_index("ix_trials_candidate", "trials", ["job_id", "candidate_key", "fidelity"])
    op.drop_index("ix_trials_fidelity", "trials")
    op.drop_index("ix_trials_state", "trials")
    op.create_index("ix_trials_job_state", "trials", ["job_id", "state"])
    for name in ("ux_jobs_owner_key", "ix_jobs_owner_newest", "ix_jobs_state_newest"):
        op.drop_index(name, "jobs")
    op.drop_index("ix_jobs_newest", "jobs")
    op.create_index("ix_jobs_created_at", "jobs", ["created_at"])
    for column in NEW_COLUMNS:
        op.drop_column("jobs", column)
