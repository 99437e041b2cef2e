"""The HTTP core of connectors: what every ERP and PSA system asks of a client, declared rather than written anew.

`client.HttpClient` makes the calls and knows what became of them, `auth` proves who we are, `paging` reads lists to
their end, `errors.ErrorShape` says where a system puts its errors and `outcome` what happens next because of one.
"""
