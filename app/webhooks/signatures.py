"""The secrets of webhooks: made, kept encrypted, and what they sign (Standard Webhooks).

Both secrets of a webhook, the current one and the one before a rotation, are under one master key.
"""

import os
from base64 import b64encode
from datetime import datetime
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidTag
from sqlalchemy import select, update
from standardwebhooks import Webhook

from app.keys import master
from app.keys.errors import UnknownMasterKey
from app.platform.db import transaction
from app.platform.logging import get_logger
from app.webhooks.models import webhooks

log = get_logger(__name__)

_LABEL = "webhook secret"
_PREFIX = "whsec_"
# Standard Webhooks wants 24 to 64. As many as the digest has.
_BYTES = 32


class SecretUnreadable(Exception):
    """None of the master keys opens a webhook's secret."""


def make() -> bytes:
    """Return a new secret."""
    return os.urandom(_BYTES)


def text(secret: bytes) -> str:
    """Return a secret as apps write it: `whsec_` and base64."""
    return _PREFIX + b64encode(secret).decode()


def sealed(webhook_id: UUID, secret: bytes, before: bytes | None = None) -> dict[str, Any]:
    """Return the columns that keep a secret, and the one before it, under the current master key.

    `previous_until` isn't among them.
    """
    context = webhook_id.bytes
    return {
        "secret": master.encrypt(_LABEL, secret, context=context),
        "previous_secret": before and master.encrypt(_LABEL, before, context=context),
        "master_key_version": master.current_version(),
    }


def opened(webhook: Any) -> tuple[bytes, bytes | None]:
    """Return the secret of a stored webhook, and the one before it.

    Raises SecretUnreadable.
    """
    return _open(webhook, webhook.secret), (
        webhook.previous_secret and _open(webhook, webhook.previous_secret)
    )


def sign(webhook: Any, *, message_id: str, body: bytes, now: datetime) -> str:
    """Return the signatures of a message, separated by spaces: one for each secret that counts.

    Raises SecretUnreadable.
    """
    secret, before = opened(webhook)
    counting = [secret]
    if before is not None and webhook.previous_until > now:
        counting.append(before)
    return " ".join(Webhook(each).sign(message_id, now, body.decode()) for each in counting)


def reencrypt() -> int:
    """Bring all secrets under the current master key, and return of how many webhooks they were.

    What is under a newer one stays: while a change of the setting is on its way, machines differ
    about which is the current one. A secret that can't be opened hinders no other.

    Raises Unavailable.
    """
    older = webhooks.c.master_key_version < master.current_version()
    number = 0
    with transaction() as session:
        for webhook in session.execute(select(webhooks).where(older).with_for_update()).all():
            try:
                secret, before = opened(webhook)
            except SecretUnreadable:
                continue
            values = sealed(webhook.id, secret, before)
            session.execute(update(webhooks).where(webhooks.c.id == webhook.id).values(values))
            number += 1
    return number


def _open(webhook: Any, stored: bytes) -> bytes:
    version = webhook.master_key_version
    try:
        return master.decrypt(_LABEL, stored, context=webhook.id.bytes, version=version)
    except (UnknownMasterKey, InvalidTag) as error:
        log.error(
            "webhook_not_opened",
            setting="APP_AUTH_MASTER_KEYS",
            webhook_id=str(webhook.id),
            master_key_version=version,
        )
        raise SecretUnreadable from error
