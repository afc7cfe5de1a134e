"""The section `notify`."""

from __future__ import annotations

from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from llmhost.config.fields import Duration, Section, raise_broken

__all__ = ["NotifyConfig"]


class NotifyConfig(Section):
    """Who is told by `llmhost scale` of what needs attention: 80 % and all of a day's or month's budget, a
    worker that was lost, autoscaling that is paused, and wrong hits of the cache. `llmhost notify test` tries
    it."""

    webhook: SecretStr | None = Field(
        None,
        description="URL that gets each notification as JSON: `fleet`, `event`, `title`, `text` and `at`.",
        examples=["${NOTIFY_WEBHOOK}"],
    )
    slack: SecretStr | None = Field(
        None, description="URL of an incoming webhook of Slack.", examples=["${SLACK_WEBHOOK}"]
    )
    ntfy: SecretStr | None = Field(
        None,
        description="URL of a topic of ntfy, such as `https://ntfy.sh/my-secret-topic`.",
        examples=["${NTFY_TOPIC}"],
    )
    ntfy_token: SecretStr | None = Field(
        None, description="Access token for that topic, if it needs one.", examples=["${NTFY_TOKEN}"]
    )
    command: SecretStr | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="Program with its arguments, which gets the same JSON on stdin. No shell reads it. It is "
        "not shown, as it may hold a token. A file that is not named but found in the current folder cannot "
        "set it.",
        examples=["/usr/local/bin/page-me --team llm"],
    )
    timeout: Duration = Field(10.0, le=60, description="Time limit for each of them.")

    @model_validator(mode="after")
    def _addresses(self) -> Self:
        urls = {"webhook": self.webhook, "slack": self.slack, "ntfy": self.ntfy}
        raise_broken(
            *(
                (not _is_address(secret.get_secret_value()), f"`notify.{name}` is no http:// or https:// URL")
                for name, secret in urls.items()
                if secret is not None
            ),
            (self.ntfy_token is not None and self.ntfy is None, "`notify.ntfy_token` needs `notify.ntfy`"),
        )
        return self

    @property
    def any(self) -> bool:
        """Whether anyone is told."""
        return any((self.webhook, self.slack, self.ntfy, self.command))


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
