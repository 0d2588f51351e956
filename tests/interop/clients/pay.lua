-- For wrk: pays with the key that is its argument, or else with one key after the other, each sent twice in a row.
local one_key, threads = nil, {}

function setup(thread)
  table.insert(threads, thread)
  thread:set("number", #threads)
end

function init(arguments)
  one_key, sent = arguments[1], 0
  wrk.method, wrk.body = "POST", "amount=12"
end

function request()
  sent = sent + 1
  wrk.headers["Idempotency-Key"] = one_key or (number .. "-" .. math.floor((sent + 1) / 2))
  return wrk.format()
end

function done(summary)
  print("refused: " .. summary.errors.status .. ", errors: " .. summary.errors.connect + summary.errors.read)
end
