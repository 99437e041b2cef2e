"""The settings of this moment's environment; loads nothing that is slow to load where everything is embedded."""

import os

from pipeline.settings import InvalidSetting, Settings, read_settings


def current_settings() -> Settings:
    """The settings of this moment's environment.

    Raises:
      InvalidSetting: a variable has a value of the wrong kind.
    """
    settings = read_settings(os.environ)
    if settings.amqp_url is not None:
        from broker.connection import nodes_of  # slow to load, and of no use where everything is embedded

        try:
            nodes_of(settings.amqp_url)
        except (ValueError, IndexError) as error:
            raise InvalidSetting(f"AMQP_URL: {error}") from None
    return settings
