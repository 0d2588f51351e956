// Calls payments.Payments/Pay, and prints what it gets: the status, the payment's id, whether it is a replay.
//
// usage: pay_with_grpc.cjs HOST:PORT once|retrying KEY AMOUNT TIMES
const grpc = require("@grpc/grpc-js");

const [address, manner, key, amount, times] = process.argv.slice(2);
// What a service config says of a call that has met itself.
const retryPolicy = {
  maxAttempts: 5, initialBackoff: "0.1s", maxBackoff: "1s", backoffMultiplier: 2, retryableStatusCodes: ["ABORTED"],
};
const config = { methodConfig: [{ name: [{ service: "payments.Payments" }], retryPolicy }] };
const options = manner === "retrying" ? { "grpc.service_config": JSON.stringify(config) } : {};
const client = new grpc.Client(address, grpc.credentials.createInsecure(), options);

// uint64 amount = 1; of the answer: uint64 id = 1, below 128.
const encode = (amount) => {
  const bytes = [8];
  for (; amount > 127; amount = Math.floor(amount / 128)) bytes.push((amount % 128) | 128);
  return Buffer.from([...bytes, amount]);
};
const decode = (bytes) => bytes[1];

function pay() {
  return new Promise((resolve) => {
    const metadata = new grpc.Metadata();
    metadata.set("idempotency-key", key);
    let replayed = false;
    const call = client.makeUnaryRequest("/payments.Payments/Pay", encode, decode, Number(amount), metadata, (error, id) =>
      resolve(error ? grpc.status[error.code] : `OK ${id}${replayed ? " replayed" : ""}`));
    call.on("metadata", (head) => (replayed = head.get("idempotent-replayed")[0] === "true"));
  });
}

Promise.all(Array.from({ length: Number(times) }, pay)).then((said) => {
  said.forEach((line) => console.log(line));
  client.close();
});
