// Pays with the MercadoPago SDK: see pay_with_mercadopago.py.
const { MercadoPagoConfig, Payment } = require("mercadopago");
// There is no setting for it.
const { AppConfig } = require("mercadopago/dist/utils/config");

const [url, ...keys] = process.argv.slice(2);
AppConfig.BASE_URL = url;
const payments = new Payment(new MercadoPagoConfig({ accessToken: "TEST-0" }));

async function pay(word) {
  const [key, more] = word.split(":");
  const requestOptions = key === "own" ? {} : { idempotencyKey: key };
  const body = { transaction_amount: more ? 120 : 12, payment_method_id: "pix", payer: { email: "a@b.example" } };
  try {
    const answer = await payments.create({ body, requestOptions });
    return `${answer.api_response.status} ${answer.id}`;
  } catch (error) {
    return `${error.status} -`;
  }
}

(async () => {
  for (const word of keys) console.log(await pay(word));
})();
