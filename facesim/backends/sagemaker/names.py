"""What names at AWS are made of: an account's region, partition and number, as far as they can be known from here.

A policy, a dry run and its cap need no account: where none can be asked, placeholders take the places of what it would
have said, and say so.
"""

from __future__ import annotations

import functools
import os

from facesim.backends.sagemaker.advice import AwsError, CredentialsError
from facesim.backends.sagemaker.session import Account, NoAccount

#: Placeholders: AWS gives no account this number, and refuses what names it.
REGION, NUMBER = "us-east-1", "000000000000"


class Names:
    """An account's names, or placeholders for them; what these stand for is added to `placeholders`, in words.

    Nothing is asked until it is needed.

    Raises:
        InputError: the configuration, or the region that was given, cannot be used.
    """

    def __init__(self, region: str | None = None):
        self.placeholders: list[str] = []
        self._account: Account | None = None
        try:
            self._account = Account(region)
            self.region = self._account.region
        except NoAccount as error:
            self._why = str(error)
            named = region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
            self.region = named or REGION
            if not named:
                self.placeholders.append(f"{REGION} stands for the region: {error}")

    @functools.cached_property
    def partition(self) -> str:
        if self._account:
            return self._account.partition
        # AWS, "Amazon Resource Names": the partitions beside the commercial one.
        begins = {"cn-": "aws-cn", "us-gov-": "aws-us-gov"}
        return next((name for begin, name in begins.items() if self.region.startswith(begin)), "aws")

    @functools.cached_property
    def id(self) -> str:
        """The account's number."""
        try:
            if self._account:
                return self._account.id
        except (CredentialsError, AwsError) as error:
            self._why = str(error)
        self.placeholders.append(f"{NUMBER} stands for the account's number: {self._why}")
        return NUMBER

    @property
    def bucket(self) -> str:
        """The bucket that is used where none is named."""
        return f"sagemaker-{self.region}-{self.id}"
