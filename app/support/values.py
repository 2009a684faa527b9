"""How long a deletion can be undone, what exports are, and what is kept how long."""

from datetime import timedelta
from enum import StrEnum
from typing import Final

from app.mail.values import LIFETIMES, Kind

# The link in the mail is good for as long.
UNDOABLE: Final = LIFETIMES[Kind.DELETION]
# Requests and their retries are over by then, those too that began before the deletion.
SETTLED: Final = timedelta(minutes=2)

EXPORT_KEPT: Final = timedelta(days=7)
EXPORTS_A_DAY: Final = 5


class ExportStatus(StrEnum):
    """Whether an export can be fetched."""

    PENDING = "pending"
    READY = "ready"


# Where devices and addresses of strangers may be looked up, if somebody got into an account.
LOGIN_SESSIONS_KEPT: Final = timedelta(days=90)
# What was written to whom: for the questions that people ask about it.
MAILS_KEPT: Final = timedelta(days=30)
# A year, and a month to look at it.
AUDIT_PERSONAL_KEPT: Final = timedelta(days=400)
# Jobs that failed for good, for whoever finds out why.
FAILED_JOBS_KEPT: Final = timedelta(days=90)
