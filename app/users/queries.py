"""What several use cases ask of the table of users: what is shown of one, and the lock on a row."""

from sqlalchemy import Text, and_, bindparam, case, func, select
from sqlalchemy.dialects.postgresql import ARRAY

from app.platform import clock
from app.users.models import users
from app.users.values import USER_ROLE, Status

# A suspension whose time is over counts as over, wherever a status is shown or looked for. Nothing
# is written then, and so the version that is shown counts it as the change that it is.
_now = bindparam("now", type_=users.c.suspended_until.type, callable_=clock.now)
SUSPENSION_IS_OVER = and_(
    users.c.status == Status.SUSPENDED, func.coalesce(users.c.suspended_until <= _now, False)
)
SHOWN_VERSION = users.c.version + case((SUSPENSION_IS_OVER, 1), else_=0)
# What the API shows of a user, and the version for its ETag.
SHOWN = (
    users.c.id,
    users.c.email,
    users.c.email_verified,
    users.c.name,
    func.array_prepend(USER_ROLE, users.c.roles, type_=ARRAY(Text)).label("roles"),
    case((SUSPENSION_IS_OVER, Status.ACTIVE.value), else_=users.c.status).label("status"),
    users.c.created_at,
    users.c.updated_at,
    SHOWN_VERSION.label("version"),
)
# Not FOR UPDATE: that would make everything wait that only refers to the user.
HOLD = (
    select(*SHOWN, users.c.email_key, users.c.suspended_until)
    .where(users.c.id == bindparam("user_id"))
    .with_for_update(key_share=True)
)
