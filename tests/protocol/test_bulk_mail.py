"""Headers that say bulk, and what only looks so."""

import pytest

from pyqmail.protocol.bulk_mail import is_bulk

HEADS = [
    (b"", False),
    (b"Subject: x\n\nPrecedence: bulk\n", False),
    (b"\nPrecedence: bulk\n", False),
    (b"Precedence: bulk\n\n", True),
    (b"Received: a\n\tb\nPRECEDENCE:  Bulk \nSubject: x\n\nhello\n", True),
    (b"Precedence: list\nSubject: x", True),
    (b"Precedence: junk\n\n", True),
    (b"Precedence: first-class\n\n", False),
    (b"Precedence: bulky\n\n", False),
    (b"X-Precedence: bulk\n\n", False),
    (b"Subject: Precedence: bulk\n\n", False),
    (b"List-Unsubscribe: <mailto:x@y>\n\n", True),
    (b"Subject: x\nlist-unsubscribe:\n <mailto:x@y>\n\n", True),
    (b"X-List-Unsubscribe: x\n\n", False),
    (b"Subject: x\n\nList-Unsubscribe: <mailto:x@y>\n", False),
]


@pytest.mark.parametrize("head, wanted", HEADS)
def test_what_a_header_says(head, wanted):
    assert is_bulk(head) is wanted
