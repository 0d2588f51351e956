"""Pays with the Stripe SDK: see pay_with_mercadopago.py. It asks again by itself, three times."""

import sys

import stripe

url, *keys = sys.argv[1:]
client = stripe.StripeClient("sk_test_0", base_addresses={"api": url}, max_network_retries=3)

for word in keys:
    key, _, more = word.partition(":")
    options = {} if key == "own" else {"idempotency_key": key}
    try:
        intent = client.v1.payment_intents.create({"amount": 120 if more else 12, "currency": "eur"}, options)
        print(intent.last_response.code, intent.id)
    except stripe.StripeError as error:
        print(error.http_status, type(error).__name__)
