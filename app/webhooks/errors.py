"""What can be refused about webhooks.

InvalidState ─┬─ TooManyWebhooks  there are as many as there can be
              └─ WebhookInactive  nothing is delivered to it
"""

from app.platform.errors import InvalidState


class TooManyWebhooks(InvalidState):
    """Another webhook would be one too many."""

    message = "There are as many webhooks as there can be. Delete one first."


class WebhookInactive(InvalidState):
    """Nothing is delivered to this webhook, so nothing is replayed."""

    message = "This webhook isn't active. Set `active` first."
