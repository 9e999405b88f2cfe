"""What holds where no rule says otherwise; the one place for each of these figures.

BUILT_IN is read as rule text whose lines come after all that is written.  An organisation's own limit grows with the
machines that it shows, so it is a function.  SHIPPED and SHIPPED_RESPONSES are what a new home gets as
control/destinations and control/responses; the latter holds, too, where there is no such file.
"""

BUILT_IN = b""":c=10,k=300/m~20,c=100/net,i=2,f=1,n=100,m=50,p=1,idle=2s,by=message,dead=3,grey=330s,v=46,learn=yes
rcpt=:c=2
"""
# keys that are read and that no scheduler obeys yet: those who write rules for one are refused them
UNBUILT: frozenset[bytes] = frozenset()
FEWEST_OF_ORGANISATION, MOST_OF_ORGANISATION, FOR_EACH_ADDRESS = 10, 200, 2


def organisation_limit(addresses: int) -> int:
    """Return how many sessions at once an organisation gets from each source if nobody wrote a limit.

    addresses: how many addresses of its MX hosts have been seen.
    """
    return min(max(FOR_EACH_ADDRESS * addresses, FEWEST_OF_ORGANISATION), MOST_OF_ORGANISATION)


SHIPPED = b"""\
# How much each destination gets at most.  pydestrules(8) explains the lines and compiles them, pydestcheck(8) shows
# which of them apply to an address.  Each is a cautious start: learning lowers a limit by itself and never raises it.
# Where a line says whose figure it is and since when, it was published, or told by the provider's staff, or is used by
# a vendor of mail software; `no figure` is our own guess.  Hosts are matched, not domains: hosted domains follow.

# the generic start of several vendors: 10 connections, 100 messages (2026-08); recipients, window, connections: ours
:c=10,i=2,n=100,m=50,k=300/m~20

# Google: 5 connections, 50 messages in KumoMTA's file after talks with their staff (2024-09)
mx=.google.com:@google
# Google: older names of the same hosts (2026-08)
mx=.googlemail.com:@google
# Google: newer names (2026-08)
mx=.smtp.goog:@google
# Google: 100 recipients, support.google.com (2026-08)
@google:c=5,n=50,m=100

# Microsoft, consumer mail: at most 500 connections in an old policy page; 5 and 50 in KumoMTA's file (2024-09)
mx=.olc.protection.outlook.com:@outlook
# Microsoft, consumer mail: likewise (2024-09)
@outlook:c=5,n=50
# Microsoft 365: each tenant has a host name of its own on the same machines (2026-08)
mx=.mail.protection.outlook.com:@office365
# Microsoft 365: names with DNSSEC (2026-08)
mx=.mx.microsoft:@office365
# Microsoft 365: 5 and 50 in KumoMTA's file, here for all tenants together (2024-09)
@office365:c=5,n=50

# Yahoo, AOL and partners (2026-08)
mx=.yahoodns.net:@yahoo
# Yahoo: 20 messages, senders.yahooinc.com (2026-08); 5 to 10 connections are what administrators report
@yahoo:c=10,n=20
# Yahoo Japan: KumoMTA's community file (2026-08)
yahoo.co.jp:c=2,n=20,r=10/s

# Apple (2026-08)
mx=.icloud.com:@apple
# Apple: nothing is published; 10 and 5 in KumoMTA's file (2024-09)
@apple:c=10,n=5

# Comcast; the domain moves to Yahoo's hosts (2026-08)
mx=.comcast.net:@comcast
# Comcast: 25 connections, 100 recipients, postmaster pages; 1000 messages, 30 s without work, told to KumoMTA (2024-09)
@comcast:c=25,n=1000,m=100,idle=30s

# GMX, mail.com: hosts of 1&1 (2026-08)
mx=.gmx.net:@gmx
# WEB.DE: the same operator (2026-08)
mx=.web.de:@gmx
# GMX, WEB.DE: 4 and 20 in KumoMTA's file (2024-09)
@gmx:c=4,n=20

# T-Online: no figure (2026-08)
mx=.t-online.de:c=3,n=50

# Orange, Wanadoo (2026-08)
mx=.orange.fr:@orange
# Orange: 2 connections for all of it, 100 messages, in KumoMTA's file (2024-09)
@orange:c=2,n=100

# Mimecast: 10 for each region, 100 messages, told to KumoMTA (2024-09)
mx=.mimecast.com:c=10,n=100
# Mimecast, South Africa: likewise (2024-09)
mx=.mimecast.co.za:c=10,n=100
# Mimecast, offshore: likewise (2024-09)
mx=.mimecast-offshore.com:c=10,n=100

# Barracuda (2026-08)
mx=.barracudanetworks.com:@barracuda
# Barracuda: 10 and 15 in KumoMTA's file (2024-09)
@barracuda:c=10,n=15

# Proofpoint: no figure; each customer's cluster is a site of its own (2026-08)
mx=.pphosted.com:c=10,n=50

# KPN: 10 and 10 in KumoMTA's file (2024-09)
mx=.kpnmail.nl:c=10,n=10

# QQ (2026-08)
mx=.qq.com:@qq
# QQ: 4 and 8 in KumoMTA's file (2024-09)
@qq:c=4,n=8

# NetEase, 163 and 126 (2026-08)
mx=.netease.com:@netease
# NetEase: 4 and 7 in KumoMTA's file (2024-09)
@netease:c=4,n=7

# Netvigator: 5 and 10 in KumoMTA's file (2024-09)
mx=.netvigator.com:c=5,n=10

# Mail.ru (2026-08)
mx=.mail.ru:@mailru
# Mail.ru: at most 10 connections, 20 to 100 messages, Momentum's table (2011)
@mailru:c=10,n=20
"""
SHIPPED_RESPONSES = b"""\
# What words in a server's reply mean: group:code:words:action, see pydestrules(8).  Seen in replies until 2026-08.

# too many sessions at once
:4:too many connections:ceiling
:4:exceed max concurrent:ceiling
:4:trop de connexions:ceiling
# Microsoft
:4:4.7.652:ceiling
:4:RP-002:ceiling
:4:IB007:ceiling
# Orange
:4:OFR004_104:ceiling

# too much in a time, by the reputation of our address
:4:temporarily rate limited due to ip reputation:rate org
:4:unusual rate:rate org
# Microsoft
:4:4.7.650:rate org
:4:4.7.651:rate org
:4:RP-001:rate org
:4:RP-003:rate org
# Google
:4:4.7.28:rate org
# Comcast
:4:RL0000:rate org
@comcast:4:RL000010:pause 5m flow

# reputation: each further try makes it worse
:4:user complaints:pause 2h org
:4:TSS04:pause 2h org
:4:TS04:pause 2h org
@yahoo:4:TSS05:pause 4h org
@yahoo:4:IPTS05:pause 4h org
@apple:4:HCM1:pause 15m org
@apple:4:BS02:pause 15m org
@orange::OFR_999:pause 3h org
@gmx:4:too many messages:pause 2h org
@gmx:4:retry later:pause 2h org
# Charter
::AUP#In-1310:pause 5m org
::AUP#In-1320:pause 1h org
::AUP#In-1330:pause 24h org

# Google: one recipient gets too much mail, from whomever
@google:450:4.2.1:ignore

# greylisting
:45:greylist:grey
:45:graylist:grey
:45:4.7.1 try again:grey
:45:4.7.1 please try again:grey

# messages of a session, recipients of a message
:4:maximum number of messages per connection:n
@yahoo:4:max message per connection:n
:452:4.5.3:m
::too many recipients:m
"""
