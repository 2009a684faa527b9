"""The yardstick of reads: the same endpoints as people usually write them with FastAPI.

Asynchronous SQLAlchemy ORM on asyncpg, PyJWT, Pydantic; uvloop and httptools come with uvicorn.
Each request verifies its token and reads its login session joined with the user, which `/users/me`
answers without a second look-up. Without the service's request id, headers, access line, metrics,
ETag and deadlines.
"""

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel, ConfigDict
from sqlalchemy import DateTime, ForeignKey, Text, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, joinedload, mapped_column, relationship

PUBLIC_KEY = Ed25519PublicKey.from_public_bytes(bytes.fromhex(os.environ["YARDSTICK_PUBLIC_KEY"]))
ISSUER = os.environ["YARDSTICK_ISSUER"]
engine = create_async_engine(os.environ["YARDSTICK_DATABASE_URL"], pool_size=20, max_overflow=0)
new_session = async_sessionmaker(engine, expire_on_commit=False)
app = FastAPI()


class Base(DeclarativeBase):
    """The parent of both tables."""


class User(Base):
    """A user, with the columns that are shown or checked."""

    __tablename__ = "users"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    email: Mapped[str]
    email_verified: Mapped[bool]
    name: Mapped[str]
    roles: Mapped[list[str]] = mapped_column(ARRAY(Text))
    status: Mapped[str]
    suspended_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class LoginSession(Base):
    """A login session, with the columns that are checked."""

    __tablename__ = "login_sessions"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    user: Mapped[User] = relationship()


class UserOut(BaseModel):
    """A user on the wire."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    email: str
    email_verified: bool
    name: str
    roles: list[str]
    status: str
    created_at: datetime
    updated_at: datetime


class UserListOut(BaseModel):
    """A page of users."""

    items: list[UserOut]
    next_cursor: str | None


async def database() -> AsyncIterator[AsyncSession]:
    """Give a session of the ORM for one request."""
    async with new_session() as session:
        yield session


Database = Annotated[AsyncSession, Depends(database)]


async def current_user(session: Database, authorization: Annotated[str, Header()]) -> User:
    """Return the user of a good token whose login session is live.

    Raises HTTPException.
    """
    try:
        claims: dict[str, Any] = jwt.decode(
            authorization.removeprefix("Bearer "),
            PUBLIC_KEY,
            algorithms=["EdDSA"],
            audience="bursar",
            issuer=ISSUER,
        )
    except jwt.PyJWTError:
        raise HTTPException(401) from None
    found = await session.execute(
        select(LoginSession)
        .options(joinedload(LoginSession.user))
        .where(LoginSession.id == UUID(claims["sid"]))
    )
    login, now = found.scalar_one_or_none(), datetime.now(UTC)
    if login is None or login.ended_at is not None or login.expires_at <= now:
        raise HTTPException(401)
    user = login.user
    over = user.status == "suspended" and user.suspended_until and user.suspended_until <= now
    if not (user.status == "active" or over):
        raise HTTPException(401)
    return user


CurrentUser = Annotated[User, Depends(current_user)]


@app.get("/api/v1/users/me", response_model=UserOut)
async def get_me(user: CurrentUser) -> User:
    """Return the signed-in user."""
    return user


@app.get("/api/v1/users", response_model=UserListOut)
async def list_users(user: CurrentUser, session: Database, per_page: int = 20) -> dict[str, Any]:
    """Return the newest users, to support."""
    if "support" not in user.roles:
        raise HTTPException(403)
    newest = select(User).order_by(User.created_at.desc(), User.id.desc()).limit(per_page + 1)
    users = (await session.scalars(newest)).all()
    more = users[per_page - 1].id.hex if len(users) > per_page else None
    return {"items": users[:per_page], "next_cursor": more}
