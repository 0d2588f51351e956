// Pays with the Stripe SDK: see pay_with_mercadopago.py. It asks again by itself, three times.
const Stripe = require("stripe");

const [url, ...keys] = process.argv.slice(2);
const { hostname: host, port } = new URL(url);
const stripe = new Stripe("sk_test_0", { host, port, protocol: "http", maxNetworkRetries: 3 });

async function pay(word) {
  const [key, more] = word.split(":");
  const options = key === "own" ? {} : { idempotencyKey: key };
  try {
    const intent = await stripe.paymentIntents.create({ amount: more ? 120 : 12, currency: "eur" }, options);
    return `${intent.lastResponse.statusCode} ${intent.id}`;
  } catch (error) {
    return `${error.statusCode} ${error.type}`;
  }
}

(async () => {
  for (const word of keys) console.log(await pay(word));
  process.exit(); // it has not read the body of a 409 that it repeats, and would wait for its connection for 80 seconds
})();
