-- Moves the deadline of the claim held by a token.
-- KEYS: key. ARGV: header of the claim, lease in ms.
-- Returns 1: moved. 0: nothing is there. Anything else: the header of the value that is there.
local found = redis.call('GETRANGE', KEYS[1], '0', '21')
if found == ARGV[1] then
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
if found == '' and redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
return found
