// SPDX-License-Identifier: Apache-2.0
/* human: numbers in the words of people. */
#include "base/human.h"

#include <math.h>
#include <stdio.h>

const char *df_human_bytes(double bytes, char z[32])
{
	static const char *const unit[] = {"B", "kB", "MB", "GB", "TB", "PB"};
	size_t u = 0;
	while (bytes >= 1000 && u < 5) {
		bytes /= 1000;
		u++;
	}
	(void)snprintf(z, 32, u == 0 || bytes >= 100 ? "%.0f %s" : "%.1f %s", bytes, unit[u]);
	return z;
}

const char *df_human_time(double seconds, char z[32])
{
	if (seconds < 0.1)
		(void)snprintf(z, 32, "%.0f ms", seconds * 1000);
	else if (seconds < 100)
		(void)snprintf(z, 32, "%.1f s", seconds);
	else if (seconds < 6000)
		(void)snprintf(z, 32, "%d:%02d min", (int)seconds / 60, (int)seconds % 60);
	else
		(void)snprintf(z, 32, "%.0f:%02d h", (double)(long)(seconds / 3600), (int)((long)seconds / 60 % 60));
	return z;
}

const char *df_human_count(uint64_t n, char z[32])
{
	char digits[24];
	int len = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)n), out = 0;
	for (int i = 0; i < len; i++) {
		if (i && (len - i) % 3 == 0)
			z[out++] = ',';
		z[out++] = digits[i];
	}
	z[out] = '\0';
	return z;
}

const char *df_human_number_of(uint64_t n, const char *one, char z[48])
{
	char digits[32];
	(void)snprintf(z, 48, "%s %s%s", df_human_count(n, digits), one, n == 1 ? "" : "s");
	return z;
}

const char *df_human_usd(double usd, char z[32])
{
	int digits = usd > 0 && usd < 1 ? 2 - (int)floor(log10(usd)) : 2;
	digits = digits > 9 ? 9 : digits;
	(void)snprintf(z, 32, "$%.*f", digits, usd);
	return z;
}

const char *df_human_unpriced(uint64_t unpriced, uint64_t calls, char z[80])
{
	char n[48];
	z[0] = '\0';
	if (unpriced >= calls && calls)
		(void)snprintf(z, 80, " (at unknown prices)");
	else if (unpriced)
		(void)snprintf(z, 80, " (%s at unknown prices)", df_human_number_of(unpriced, "call", n));
	return z;
}
