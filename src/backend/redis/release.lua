-- Deletes the claim held by a token.
-- KEYS: key. ARGV: header of the claim, channel or '', message.
-- Returns 1: deleted. 0: nothing is there. Anything else: the header of the value that is there.
local found = redis.call('GETRANGE', KEYS[1], '0', '21')
if found == ARGV[1] then
  redis.call('DEL', KEYS[1])
  if ARGV[2] ~= '' then
    redis.pcall('PUBLISH', ARGV[2], ARGV[3])
  end
  return 1
end
if found == '' and redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
return found
