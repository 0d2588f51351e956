"""Pays with the MercadoPago SDK, once for each key, and prints what it returns: the status and the payment's id.

usage: pay_with_mercadopago.py URL KEY...    KEY: own, for one that the SDK makes; or TEXT, or TEXT:more for another amount
"""

import sys

import mercadopago
import requests
from mercadopago.config import RequestOptions
from mercadopago.config.config import Config

url, *keys = sys.argv[1:]
# There is no setting for it.
Config.api_base_url = property(lambda self: url)
payments = mercadopago.SDK("TEST-0").payment()

for word in keys:
    key, _, more = word.partition(":")
    options = None if key == "own" else RequestOptions("TEST-0", custom_headers={"x-idempotency-key": key})
    payment = {"transaction_amount": 120 if more else 12, "payment_method_id": "pix", "payer": {"email": "a@b.example"}}
    try:
        answer = payments.create(payment, options)
        print(answer["status"], answer["response"].get("id", "-"))
    except requests.ConnectionError:
        print("connection lost")
