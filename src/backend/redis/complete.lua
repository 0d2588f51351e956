-- Stores a record in place of the claim held by a token.
-- KEYS: key. ARGV: header of the claim, record with its header, retention in ms, channel or '', message.
-- Returns 1: stored. Anything else: the header of the value that is in the way.
local found = redis.call('GETRANGE', KEYS[1], 0, #ARGV[1] - 1)
if found ~= ARGV[1] and (found ~= '' or redis.call('EXISTS', KEYS[1]) == 1) then
  -- Perhaps an earlier sending has stored the record.
  return found == string.sub(ARGV[2], 1, #ARGV[1]) and 1 or found
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
if ARGV[4] ~= '' then
  -- Whoever may not publish stores all the same.
  redis.pcall('PUBLISH', ARGV[4], ARGV[5])
end
return 1
