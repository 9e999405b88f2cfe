"""Which recipients of a message go together."""

import pytest

from pyqmail.mail.destinations.old.lanes import Recipient
from pyqmail.mail.destinations.old.parcels import by_domain, by_message


class Message:
    is_alone = False


GROUPED = [
    # addresses                            lanes and what goes together
    ([], {}),
    ([b"a@X.Example"], {b"x.example": [0]}),
    ([b"nobody"], {b"": [0]}),
    ([b"a@x", b"b@y", b"c@X", b"d@e@x"], {b"x": [0, 2, 3], b"y": [1]}),
]


@pytest.mark.parametrize("addresses, wanted", GROUPED)
def test_a_domain_is_a_lane(addresses, wanted):
    recipients = [Recipient(Message(), offset, address) for offset, address in enumerate(addresses)]
    found = by_domain(Message(), recipients)
    assert {key: [one.offset for one in parcel] for key, parcel in found} == wanted


def test_a_message_is_a_lane():
    message = Message()
    recipients = [Recipient(message, 0, b"a@x"), Recipient(message, 9, b"b@y")]
    assert list(by_message(message, recipients)) == [(message, recipients)]
    assert list(by_message(message, [])) == []
