-- Stores a record in place of the claim held by a token.
-- KEYS: key. ARGV: header of the claim, record with its header, retention in ms, channel or '', message.
-- Returns 1: stored. Anything else: the header of the value that is in the way.
local key, claim, record = KEYS[1], ARGV[1], ARGV[2]
-- The header, 22 bytes. Numbers would have to be turned into text, which takes longer than the reading.
local found = redis.call('GETRANGE', key, '0', '21')
if found ~= claim then
  if found == string.sub(record, 1, #claim) then
    return 1
  end
  if found ~= '' or redis.call('EXISTS', key) == 1 then
    return found
  end
end
redis.call('SET', key, record, 'PX', ARGV[3])
if ARGV[4] ~= '' then
  -- Whoever may not publish stores all the same.
  redis.pcall('PUBLISH', ARGV[4], ARGV[5])
end
return 1
