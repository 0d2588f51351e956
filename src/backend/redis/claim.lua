-- What SET .. NX GET PX does, for servers before Redis 7, which refuse NX with GET.
-- KEYS: key. ARGV: claim, lease in ms.
-- Returns nil: claimed. Anything else: the value that is there.
local found = redis.call('GET', KEYS[1])
if not found then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return found
