/* exp, erf, tanh and the two GELUs on vectors. The coefficients are weighted minimax fits
 * made for this file; the errors stated are those of the fits, before rounding. */

/* e^x for x <= 88: 2^n e^r, n = round(x log2 e), r in [-ln2/2, ln2/2], and e^r by a polynomial of
 * degree 6 (7e-9). It falls to 0 at about -87; minus infinity gives 0, NaN gives NaN. */
INL vf vexp(vf x) {
	/* Adding 1.5 * 2^23 rounds to an integer; 127 more makes its low bits the exponent of 2^n. */
	const vf magic = vset1(12582912.0f + 127.0f);
	vf y = vmax(vset1(EXP_LOWEST), x);
	vf t = vfma(y, vset1(1.44269504f), magic);
	vf n = t - magic;
	/* ln 2 in two parts, the first with few bits so that n times it is exact */
	vf r = vfnma(n, vset1(0.693359375f), y);
	r = vfnma(n, vset1(-2.12194440e-4f), r);
	vf p = vfma(vset1(0.00139012851f), r, vset1(0.00836315751f));
	p = vfma(p, r, vset1(0.0416668542f));
	p = vfma(p, r, vset1(0.166665778f));
	p = vfma(p, r, vset1(0.5f));
	p = vfma(p, r * r, r) + vset1(1.0f);
	return vscale2(p, n, t, x);
}

/* erf x = x P(x^2) / Q(x^2), both of degree 5 (2e-8), on |x| <= 3.92, beyond which it is 1. */
INL vf verf(vf x) {
	vf y = vmax(vset1(-3.925f), vmin(vset1(3.925f), x)), t = y * y;
	vf p = vfma(vset1(2.03612035e-06f), t, vset1(0.000284743001f));
	vf q = vfma(vset1(3.79401936e-05f), t, vset1(0.00116705801f));
	p = vfma(p, t, vset1(0.00378939975f));
	q = vfma(q, t, vset1(0.0150172282f));
	p = vfma(p, t, vset1(0.0528194159f));
	q = vfma(q, t, vset1(0.114362024f));
	p = vfma(p, t, vset1(0.191049978f));
	q = vfma(q, t, vset1(0.502646327f));
	p = vfma(p, t, vset1(1.12837911f));
	q = vfma(q, t, vset1(1.0f));
	return vmax(vset1(-1.0f), vmin(vset1(1.0f), vdiv(y * p, q)));
}

INL vf vabs(vf x) { return vmax(x, vzero() - x); }

/* tanh x = sign(x) (1 - e) / (1 + e), e = e^(-2|x|); below 0.6, where 1 - e cancels, the odd
 * polynomial x + x^3 P(x^2), P of degree 4 (2e-8 of the whole). */
INL vf vtanh(vf x) {
	vf a = vabs(x), t = x * x, e = vexp(a * vset1(-2.0f));
	vf big = vdiv(vset1(1.0f) - e, vset1(1.0f) + e);
	vf p = vfma(vset1(-0.00604549889f), t, vset1(0.0209616031f));
	p = vfma(p, t, vset1(-0.0538433343f));
	p = vfma(p, t, vset1(0.133327201f));
	p = vfma(p, t, vset1(-0.333333284f));
	big = vsel(vlt(x, vzero()), vzero() - big, big);
	return vsel(vlt(a, vset1(0.6f)), vfma(p * t, x, x), big);
}

#define SQRT_HALF 0.707106781f     /* 1/sqrt 2 */
#define INV_SQRT_2PI 0.398942280f  /* 1/sqrt(2 pi) */
#define SQRT_2_OVER_PI 0.797884561f
#define GELU_CUBE 0.044715f

/* x/2 (1 + erf(x / sqrt 2)) */
INL vf vgelu_erf(vf x) {
	vf h = x * vset1(0.5f);
	return vfma(h, verf(x * vset1(SQRT_HALF)), h);
}

/* d/dx = (1 + erf(x / sqrt 2)) / 2 + x e^(-x^2/2) / sqrt(2 pi) */
INL vf vgelu_erf_slope(vf x) {
	vf phi = vexp(x * x * vset1(-0.5f)) * vset1(INV_SQRT_2PI);
	vf cdf = vfma(vset1(0.5f), verf(x * vset1(SQRT_HALF)), vset1(0.5f));
	return vfma(x, phi, cdf);
}

/* x/2 (1 + tanh u) = x / (1 + e^(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3). The logistic function
 * of 2u comes from e = e^(-2|u|), which does not overflow and keeps small values exact. */
INL vf vgelu_tanh(vf x) {
	vf u = vset1(SQRT_2_OVER_PI) * vfma(x * x * x, vset1(GELU_CUBE), x);
	vf e = vexp(vabs(u) * vset1(-2.0f)), r = vdiv(vset1(1.0f), vset1(1.0f) + e);
	return x * vsel(vlt(u, vzero()), e * r, r);
}

/* d/dx = s + x 2 s (1-s) u', s = 1 / (1 + e^(-2u)), u' = sqrt(2/pi) (1 + 3 * 0.044715 x^2) */
INL vf vgelu_tanh_slope(vf x) {
	vf t = x * x;
	vf u = vset1(SQRT_2_OVER_PI) * vfma(t * x, vset1(GELU_CUBE), x);
	vf du = vset1(2 * SQRT_2_OVER_PI) * vfma(t, vset1(3 * GELU_CUBE), vset1(1.0f));
	vf e = vexp(vabs(u) * vset1(-2.0f)), r = vdiv(vset1(1.0f), vset1(1.0f) + e);
	vf s = vsel(vlt(u, vzero()), e * r, r);
	return vfma(x * (e * r * r), du, s);
}

INL vf vact(vf x, int act) {
	return act == ACT_GELU_ERF ? vgelu_erf(x) : act == ACT_GELU_TANH ? vgelu_tanh(x) : x;
}
